"""The weights of a model directory, written again in another type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.writing import TensorSpec, stream_safetensors, write_order


def store_as(path: Path, dtype: str, broken: Mapping[str, tuple[int, int]] | None = None) -> None:
    """Write ``model.safetensors`` as F32, F16 or BF16, with NaN at the places of ``broken``."""
    source = Checkpoint.open(path)
    made = {}
    for name in source.names():
        values = np.array(source.dense(name))
        values[np.isnan(values)] = 0
        if name in (broken or {}):
            values[broken[name]] = np.nan
        if dtype == "BF16":
            made[name] = (values.view(np.uint32) >> 16).astype(np.uint16)
        else:
            made[name] = values.astype({"F16": np.float16, "F32": np.float32}[dtype])
    specs = {name: TensorSpec(dtype, value.shape) for name, value in made.items()}
    written = path / "again.safetensors"
    stream_safetensors(written, specs, (made[name] for name in write_order(specs)), {})
    written.replace(path / "model.safetensors")
