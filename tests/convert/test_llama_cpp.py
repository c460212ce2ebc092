"""llama.cpp predicts from our files what we predict from their weights; needs its wheel.

Run where ``xllamacpp`` is installed; skipped elsewhere.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_gguf
from small_gguf import write_dense, write_packed

from lrc.convert.gguf.exporter import adapter_path, export_gguf
from lrc.parts.codes import Codes
from lrc.run.load import load

xllamacpp = pytest.importorskip("xllamacpp")
VOCAB = len(tiny_gguf.TOKENS)


def predicted(path, ids, adapter=None):
    """Log-probabilities (vocab,) of llama.cpp behind a prompt; None where it ends in half a letter.

    It holds such a token back, and what it knows about it. Keys and values are float32: attention
    of random weights leans on few of them, and rounding to float16 is seen.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.verbosity = 96, 1, 0, -1
    params.warmup = False
    params.cache_type_k = params.cache_type_v = params.flash_attn_type = 0
    if adapter is not None:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(adapter), 1.0
        params.lora_adapters = [lora]
    reply = xllamacpp.Server(params).handle_completions(
        {"prompt": ids, "max_tokens": 1, "temperature": 0.0, "logprobs": VOCAB}
    )
    reply = json.loads(reply) if isinstance(reply, str) else reply
    known = reply["choices"][0]["logprobs"]
    if known is None:
        return None
    listed = known["content"][0]["top_logprobs"]
    found = np.full(VOCAB, np.nan)
    found[[each["id"] for each in listed]] = [each["logprob"] for each in listed]
    return found


def in_eight_bits(x, block):
    """What llama.cpp multiplies codes with: whole numbers of 8 bits and scales of blocks."""
    parts = x.reshape(-1, block)
    at = np.abs(parts).argmax(axis=1)[:, None]
    if block == 256:  # a float32 scale, by which the largest entry becomes -127
        inverse = np.float32(-127) / np.take_along_axis(parts, at, axis=1)
        rounded = np.minimum(np.rint(parts * inverse), 127) * (1 / inverse)
    else:  # a float16 scale; halves are rounded away from zero
        scale = np.abs(np.take_along_axis(parts, at, axis=1)) / np.float32(127)
        whole = parts * (1 / scale)
        whole = np.sign(whole) * np.floor(np.abs(whole) + np.float32(0.5))
        rounded = whole * scale.astype(np.float16).astype(np.float32)
    return rounded.reshape(x.shape).astype(np.float32)


def ours(folder, ids, monkeypatch=None):
    """Log-probabilities of the same; with ``monkeypatch`` on activations as llama.cpp has them."""
    if monkeypatch is not None:
        apply = Codes.apply

        def rounded(self, z, each, *, integers):
            return apply(self, in_eight_bits(z, self.coding.blocks.block), each, integers=integers)

        monkeypatch.setattr(Codes, "apply", rounded)
    logits = load(folder).model.logits(np.array([ids]))[0, -1].astype(np.float64)
    if monkeypatch is not None:
        monkeypatch.undo()
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("llama")
    dense = write_dense(root)
    return dense, write_packed(dense, root / "packed")


def prompts(count, seed=7):
    return np.random.default_rng(seed).integers(3, VOCAB, (count, 24)).tolist()


def test_llama_cpp_predicts_what_we_do(models, tmp_path):
    path = export_gguf(models[0], tmp_path / "m.gguf")
    ids, found = next(
        (ids, found) for ids in prompts(20) if (found := predicted(path, ids)) is not None
    )
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, ours(models[0], ids), atol=0.01)


@pytest.mark.parametrize("kind", ["Q2_K_M", "iq3_xxs", "iq2_xs", "iq2_xxs"])
def test_it_does_from_codes_by_its_own_arithmetic(kind, tmp_path, monkeypatch):
    """An activation between two numbers may be rounded to either, which later layers see.

    So it does of most texts; without an adapter, whose float16 moves every activation a little.
    """
    dense = write_dense(tmp_path, 64 if kind == "Q2_K_M" else 256)
    packed = write_packed(dense, tmp_path / "packed", kind, rank=0)
    path = export_gguf(packed, tmp_path / "out.gguf")
    apart = [
        np.abs(found - ours(packed, ids, monkeypatch)).max()
        for ids in prompts(12)
        if (found := predicted(path, ids)) is not None
    ]
    assert len(apart) >= 5
    assert np.median(apart) < 0.005, apart
    assert max(apart) < 0.3, apart


def test_the_adapter_is_part_of_what_it_predicts(models, tmp_path):
    path = export_gguf(models[1], tmp_path / "m.gguf")
    for ids in np.random.default_rng(8).integers(3, VOCAB, (20, 24)).tolist():
        found, without = (predicted(path, ids, own) for own in (adapter_path(path), None))
        if found is not None and without is not None:
            break
    known = ours(models[1], ids)
    assert np.abs(without - known).max() > 2 * np.abs(found - known).max()
