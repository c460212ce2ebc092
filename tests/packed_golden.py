"""Copies of the golden model that were tampered with, for tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.packed import MANIFEST

V1, V2 = (Path(__file__).parent / "data" / "golden" / version for version in ("v1", "v2"))
GOLDEN = V2 / "model"
Change = Callable[[dict[str, Any]], object]


def drop(*path: str | int) -> Change:
    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        del manifest[path[-1]]

    return change


def put(value: object, *path: str | int) -> Change:
    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


def copied(tmp_path: Path, change: Change | None = None, golden: Path = GOLDEN) -> Path:
    shutil.copytree(golden, tmp_path / "model")
    path = tmp_path / "model" / MANIFEST
    if change is not None:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        change(manifest)
        path.write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path / "model"


def with_tensors(tmp_path: Path, change: Change) -> Path:
    folder = copied(tmp_path)
    path = folder / "block-00000.safetensors"
    file = SafetensorsFile(path)
    tensors = {name: np.array(file.read(name)) for name in file.names}
    change(tensors)
    write_safetensors(path, tensors, file.metadata)
    return folder
