"""Checkpoints that hold tensors in another layout: read, compressed and exported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from random_weights import MemorySource, random_weights
from safetensors.numpy import save_file

import lrc
from lrc.convert.hf import export_hf
from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.view import View
from lrc.models import MODELS
from lrc.models.base import Model
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_tensors import decoder_tensors as llama_tensors
from lrc.models.llama import LlamaConfig
from lrc.models.tensors import Tensors

Weights = dict[str, NDArray[np.float32]]
IDS = np.arange(20)[None]
CONFIG = {**tiny.CONFIG, "model_type": "llama"}
HIDDEN, INNER = tiny.CONFIG["hidden_size"], tiny.CONFIG["intermediate_size"]
LAYERS = tiny.CONFIG["num_hidden_layers"]


def place(name: str) -> View | None:
    """Gate and up of all layers in one stack, transposed; down transposed under its own name."""
    layer, *key = name.removeprefix("model.layers.").split(".")
    match key:
        case ["mlp", "gate_proj", "weight"]:
            return View("stack", int(layer), transposed=True, rows=(0, INNER))
        case ["mlp", "up_proj", "weight"]:
            return View("stack", int(layer), transposed=True, rows=(INNER, 2 * INNER))
        case ["mlp", "down_proj", "weight"]:
            return View(name, transposed=True)
    return None


def tensors(config: LlamaConfig) -> Tensors:
    usual = llama_tensors(config)
    read = {
        name: dataclasses.replace(tensor, layouts=(view,)) if (view := place(name)) else tensor
        for name, tensor in usual.read.items()
    }
    return Tensors(read, usual.ignored)


TOY = DecoderFamily("toy", LlamaConfig.from_dict, tensors, DecoderBlock)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model directory of a family with such a layout."""
    monkeypatch.setitem(MODELS, "llama", TOY)
    weights = laid_out(tiny.tensors(tiny.CONFIG, seed=71))
    return tiny.write_directory(tmp_path / "toy", CONFIG, weights)


def laid_out(usual: Weights) -> Weights:
    gate_up = [
        np.concatenate([usual[f"model.layers.{i}.mlp.{k}_proj.weight"] for k in ("gate", "up")]).T
        for i in range(LAYERS)
    ]
    made = {"stack": np.ascontiguousarray(np.stack(gate_up))}
    for name, weight in usual.items():
        view = place(name)
        if view is None or view.stored == name:
            made[name] = np.ascontiguousarray(weight if view is None else weight.T)
    return made


def usual_model() -> Model:
    weights = tiny.tensors(tiny.CONFIG, seed=71)
    source = MemorySource(dict(CONFIG), weights)
    return DecoderFamily("llama", LlamaConfig.from_dict, llama_tensors, DecoderBlock).open(source)


def test_it_is_the_same_model(toy: Path) -> None:
    loaded, usual = lrc.load(toy), usual_model()
    assert loaded.source.names() == usual.source.names()
    assert loaded.model.notes == ()
    expected = usual.logits(IDS)
    np.testing.assert_array_equal(loaded.model.logits(IDS), expected)
    again = loaded.model.as_stored()
    np.testing.assert_allclose(again.logits(IDS), expected, rtol=1e-4, atol=1e-4)


def test_it_is_compressed_and_exported_in_its_own_layout(toy: Path, tmp_path: Path) -> None:
    text = tiny.write_text(tmp_path / "text")
    spec = lrc.CompressSpec(
        calibration=lrc.CalibrationSpec(files=(str(text),), nsamples=2, seqlen=32)
    )
    packed = lrc.compress(toy, tmp_path / "small", spec).path
    out = export_hf(packed, tmp_path / "out")
    stored, original = Checkpoint.open(out), Checkpoint.open(toy)
    assert {n: stored.shape(n) for n in stored.names()} == {
        n: original.shape(n) for n in original.names()
    }
    found, expected = lrc.load(out).model.logits(IDS), lrc.load(packed).model.logits(IDS)
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
    dense = export_hf(toy, tmp_path / "dense")
    same = np.linalg.norm(lrc.load(dense).model.logits(IDS) - usual_model().logits(IDS))
    assert same < 1e-2 * np.linalg.norm(usual_model().logits(IDS))


def test_random_weights_lie_in_the_first_layout() -> None:
    weights = random_weights(TOY.declared(CONFIG), 3)
    assert weights["stack"].shape == (LAYERS, HIDDEN, 2 * INNER)
    assert all(np.abs(entry).min() > 0 for entry in weights["stack"])
    assert "model.layers.0.mlp.up_proj.weight" not in weights


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"stack": np.zeros((LAYERS + 1, HIDDEN, 2 * INNER), np.float32)}, FormatError, "stack"),
        ({"stack": np.zeros((LAYERS, 2 * INNER, HIDDEN), np.float32)}, FormatError, "stack"),
        ({"stack": None}, FormatError, r"no tensor 'model\.layers\.0\.mlp\.gate_proj\.weight'"),
        (
            {"model.layers.0.mlp.up_proj.weight": np.zeros((INNER, HIDDEN), np.float32)},
            UnsupportedModelError,
            r"'model\.layers\.0\.mlp\.up_proj\.weight'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    toy: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    weights = laid_out(tiny.tensors(tiny.CONFIG, seed=71)) | change
    save_file({n: w for n, w in weights.items() if w is not None}, toy / "model.safetensors")
    with pytest.raises(error, match=message):
        lrc.load(toy)
