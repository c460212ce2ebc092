"""Compressed models in transformers, where the extra ``hf`` is installed: logits are ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from packed_golden import GOLDEN

import lrc
import lrc.hf
from lrc.errors import SpecError
from lrc.hf import quantizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")  # transformers' own

IDS = np.random.default_rng(6).integers(0, 256, (2, 20))


@pytest.fixture(scope="module")
def model():
    return transformers.AutoModelForCausalLM.from_pretrained(GOLDEN)


def packed_layers(model) -> list:
    return [module for module in model.modules() if type(module).__name__ == "LrcLinear"]


def test_logits_are_ours(model) -> None:
    ours = lrc.load(GOLDEN).model
    with torch.no_grad():
        theirs = model(torch.from_numpy(IDS)).logits.numpy()
    expected = ours.logits(IDS)
    assert np.abs(theirs - expected).max() < 1e-4 * np.abs(expected).max()
    assert len(packed_layers(model)) == len(ours.tensors.matrices)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_greedy_tokens_are_ours(model) -> None:
    prompt = IDS[:1, :8]
    theirs = model.generate(
        torch.from_numpy(prompt), max_new_tokens=6, min_new_tokens=6, do_sample=False
    )[0, 8:].tolist()
    ours = list(lrc.generate(lrc.load(GOLDEN).model, prompt[0], 6, activations="f32"))
    assert theirs[: len(ours)] == ours


def test_gradients_of_inputs_pass_through(model) -> None:
    layer = packed_layers(model)[0]
    x = torch.randn(3, layer.in_features, requires_grad=True)
    g = torch.randn(3, layer.out_features)
    layer(x).backward(g)
    assert torch.allclose(x.grad, g @ layer.weight, rtol=1e-4, atol=1e-5)


def test_other_types_are_asked_for(model) -> None:
    half = transformers.AutoModelForCausalLM.from_pretrained(GOLDEN, dtype=torch.bfloat16)
    with torch.no_grad():
        first, second = (m(torch.from_numpy(IDS)).logits.float() for m in (half, model))
    assert (first - second).abs().max() < 0.1 * second.abs().max()


def test_nothing_is_written_and_nothing_is_changed(model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not serializable"):
        model.save_pretrained(tmp_path / "out")
    assert lrc.verify(GOLDEN).differences == ()


def test_what_transformers_misses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = quantizer.dense_tensors

    def without(*given):
        found = whole(*given)
        return {name: values for name, values in found.items() if "norm" not in name}

    monkeypatch.setattr(quantizer, "dense_tensors", without)
    with pytest.raises(lrc.UnsupportedModelError, match="has no values for"):
        transformers.AutoModelForCausalLM.from_pretrained(GOLDEN)


def test_another_device_is_refused() -> None:
    with pytest.raises(SpecError, match="runs on the CPU"):
        transformers.AutoModelForCausalLM.from_pretrained(GOLDEN, device_map="cuda")


def test_a_broken_directory_is_refused_by_name(tmp_path: Path) -> None:
    broken = shutil.copytree(GOLDEN, tmp_path / "broken")
    (broken / "block-00000.safetensors").unlink()
    with pytest.raises(lrc.FormatError, match="block-00000"):
        transformers.AutoModelForCausalLM.from_pretrained(broken)
