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
from lrc.run.load import load

xllamacpp = pytest.importorskip("xllamacpp")
VOCAB = len(tiny_gguf.TOKENS)


def predicted(path, ids, adapter=None):
    """Log-probabilities (vocab,) of llama.cpp behind a prompt; None where it ends in half a letter.

    It holds such a token back, and what it knows about it.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.verbosity = 96, 1, 0, -1
    params.warmup = False
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


def ours(folder, ids):
    logits = load(folder).model.logits(np.array([ids]))[0, -1].astype(np.float64)
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("llama")
    dense = write_dense(root)
    return dense, write_packed(dense, root / "packed")


@pytest.mark.parametrize("which", [0, 1])
def test_llama_cpp_predicts_what_we_do(models, which, tmp_path):
    """It multiplies with activations of 8 bits where weights are quantized."""
    path = export_gguf(models[which], tmp_path / "m.gguf")
    adapter = adapter_path(path) if which else None
    prompts = np.random.default_rng(7).integers(3, VOCAB, (20, 24)).tolist()
    ids, found = next(
        (ids, found) for ids in prompts if (found := predicted(path, ids, adapter)) is not None
    )
    known = ours(models[which], ids)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, known, atol=0.05 if which else 0.01)


def test_the_adapter_is_part_of_what_it_predicts(models, tmp_path):
    path = export_gguf(models[1], tmp_path / "m.gguf")
    for ids in np.random.default_rng(8).integers(3, VOCAB, (20, 24)).tolist():
        found, without = (predicted(path, ids, own) for own in (adapter_path(path), None))
        if found is not None and without is not None:
            break
    known = ours(models[1], ids)
    assert np.abs(without - known).max() > 2 * np.abs(found - known).max()
