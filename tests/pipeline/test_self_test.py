"""What was written is opened and run before it gets its name: nothing broken looks finished."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lrc
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.measure.self_test import SelfTest
from lrc.quant.tables import TABLES_FILE
from lrc.run.load import load

Lrc = Callable[..., Any]


def losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.log(np.exp(wide).sum(axis=-1)) - wide[np.arange(len(targets)), targets]


def test_it_is_of_the_first_window_as_the_model_on_disk_runs_it(
    model: Path, packed: Path, text: Path, tmp_path: Path
) -> None:
    windows = np.random.default_rng(4).integers(0, 256, (3, 40))
    spec = lrc.CompressSpec.from_dict(json.loads((packed / "lrc.json").read_text())["spec"])
    out = tmp_path / "out"
    found = lrc.compress(model, out, spec, windows=windows, threads=1).self_test
    ids, targets = windows[:1, :-1], windows[0, 1:]
    own, original = (load(path).model.logits(ids)[0] for path in (out, model))
    assert found["tokens"] == 39
    near = {"rel": 1e-4, "abs": 1e-4}
    assert found["loss"] == pytest.approx(losses(own, targets).mean(), **near)
    assert found["original_loss"] == pytest.approx(losses(original, targets).mean(), **near)
    greedy = own.argmax(axis=-1)
    assert found["greedy_loss"] == pytest.approx(losses(original, greedy).mean(), abs=0.05)
    assert found["greedy_loss"] >= found["original_greedy_loss"]
    agreed = (greedy == original.argmax(axis=-1)).mean()
    assert found["greedy_agreement"] == pytest.approx(agreed, abs=1.5 / 39)


def test_a_broken_model_never_looks_finished(
    lrc: Lrc, model: Path, text: Path, packed: Path, fast: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of a file that changes on disk after it was written and read back."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    command = ("compress", model, "-o", out, "--calib", text, *fast)

    def damage(folder: Path) -> None:
        file = SafetensorsFile(folder / TABLES_FILE)
        tensors = {name: np.array(file.read(name)) for name in file.names}
        tensors["model.norm.weight"] *= -1e4
        write_safetensors(file.path, tensors, file.metadata)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("lrc.pipeline.compress"), "sync_tree", damage)
        outcome = lrc(*command)
    assert outcome.code == 1
    assert "the compressed model is broken: on its first window it has a loss of" in outcome.err
    assert "give it more bits" in outcome.err
    assert not out.exists()
    assert not (partial / "lrc.json").exists()
    assert f"{partial / TABLES_FILE} is damaged (its checksum differs" in lrc(*command).err
    (partial / TABLES_FILE).unlink()
    lrc(*command).check()
    assert (out / "lrc.json").read_bytes() == (packed / "lrc.json").read_bytes()


@pytest.mark.parametrize(
    ("loss", "original", "broken", "warned"),
    [
        (3.0, 2.0, False, 0),
        (8.0, 2.0, False, 1),
        (8.0, 9.0, False, 0),
        (8.6, 2.0, True, 1),
        (8.6, 6.0, False, 0),
        (float("nan"), 2.0, True, 0),
        (float("inf"), 2.0, True, 1),
    ],
)
def test_what_is_broken(loss: float, original: float, broken: bool, warned: int) -> None:
    tested = SelfTest(9, loss, original, 1.0, 1.0, 0.5, chance=5.5)
    assert tested.is_broken is broken
    assert len(tested.warnings) == warned
