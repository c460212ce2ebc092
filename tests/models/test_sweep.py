"""Evaluating and writing text never hold a whole model in float32; stored weights are exact."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest
import tiny
from stored_weights import store_as
from tiny_llama import tiny_model

import lrc
import lrc.measure.scoring
from lrc.calibrate.self_text import sample_batch
from lrc.errors import FormatError, SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.measure.evaluate import perplexity
from lrc.models.decoder_stack import DecoderStack
from lrc.models.sweep import sweep

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "head_dim": 64,
    "num_hidden_layers": 8,
    "num_key_value_heads": 4,
}
#: Bytes of one block in float32: four square matrices and three of the feed-forward part.
BLOCK = 4 * (4 * 256 * 256 + 3 * 256 * 704)
WINDOWS = np.random.default_rng(5).integers(0, 256, (4, 64))


@pytest.fixture(scope="module", params=["F16", "BF16"])
def half(request, tmp_path_factory):
    """A model of eight blocks stored in 16 bits."""
    path = tiny.write_model(tmp_path_factory.mktemp("half") / "model", **SHAPE)
    store_as(path, request.param)
    return path


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_evaluation_is_that_of_whole_models_in_float32(half):
    model, other = lrc.load(half).model, tiny_model(3, vocab_size=258, hidden_size=32)
    found = perplexity(model, WINDOWS, against=other)

    class Plain:
        def __init__(self, model):
            self.hidden, self.head = model.hidden, model.head

    whole = perplexity(Plain(model), WINDOWS, against=Plain(other))
    assert found.perplexity == pytest.approx(whole.perplexity, rel=1e-5)
    assert found.kl_divergence == pytest.approx(whole.kl_divergence, rel=1e-4)
    assert found == perplexity(model, WINDOWS, against=other, threads=2)


def test_evaluation_has_one_block_alive_at_a_time(half, monkeypatch):
    alive, most, loaded = [], [], []
    load = DecoderStack.load_block

    def counted(self, index):
        block = load(self, index)
        alive.append(weakref.ref(block))
        most.append(sum(ref() is not None for ref in alive))
        loaded.append(index)
        return block

    monkeypatch.setattr(DecoderStack, "load_block", counted)
    perplexity(lrc.load(half).model, WINDOWS, against=lrc.load(half).model, threads=2)
    assert loaded == [*range(8), *range(8)]
    assert max(most) == 1


def test_evaluation_takes_less_than_two_blocks_beside_its_activations(half):
    model, other = lrc.load(half).model, lrc.load(half).model
    channels = 3 * 256 + 2 * 704 + 2 * 258
    activations = 4 * WINDOWS.size * channels
    peak = peak_of(lambda: perplexity(model, WINDOWS, against=other, threads=1))
    assert peak < 2 * BLOCK + activations
    assert peak_of(lambda: model.blocks) > 8 * BLOCK


def test_long_texts_go_through_the_blocks_in_turns(monkeypatch):
    model, other = tiny_model(3), tiny_model(4)
    windows = np.random.default_rng(23).integers(0, 48, (7, 18))
    whole = perplexity(model, windows, against=other)
    sizes = []

    def counted(model, parts, *rest):
        sizes.append(sum(map(len, parts)))
        return sweep(model, parts, *rest)

    monkeypatch.setattr(lrc.measure.scoring, "TOKENS", 4 * 18)
    monkeypatch.setattr("lrc.measure.predictions.sweep", counted)
    assert perplexity(model, windows, against=other) == whole
    assert sizes == [4, 4, 3, 3]


def test_writing_text_keeps_the_model_as_it_is_stored(half):
    model = lrc.load(half).model
    texts = []
    peak = peak_of(lambda: texts.append(sample_batch(model, 2, 6, 5, threads=1)))
    assert peak < 2 * BLOCK
    assert model._blocks is None
    np.testing.assert_array_equal(texts[0], sample_batch(model, 2, 6, 5, threads=2))


def test_a_model_as_stored_computes_the_same(half):
    model = lrc.load(half).model
    stored = model.as_stored()
    expected, ids = model.logits(WINDOWS[:2]), WINDOWS[:2]
    assert np.abs(stored.logits(ids) - expected).max() < 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(stored.embed(ids), model.embed(ids))
    assert tiny_model().as_stored().source is not None


def test_values_that_are_not_finite_are_refused_as_stored_too(tmp_path):
    path = tiny.write_model(tmp_path / "model")
    name = "model.layers.1.mlp.up_proj.weight"
    for dtype in ("F16", "BF16", "F32"):
        store_as(path, dtype, {name: (3, 5)})
        with pytest.raises(FormatError, match=r"up_proj.* has 1 values that are NaN or infinite"):
            Checkpoint.open(path).stored(name)
        with pytest.raises(FormatError, match=r"up_proj.* has 1 values"):
            perplexity(lrc.load(path).model, WINDOWS)


def test_nothing_is_computed_beyond_the_context():
    model = tiny_model(max_position_embeddings=32)
    ids = np.zeros((1, 33), np.int64)
    for work in (
        lambda: model.logits(ids),
        lambda: model.new_cache(1, 33),
        lambda: sweep(model, [ids], 1),
        lambda: perplexity(model, ids),
    ):
        with pytest.raises(SpecError, match="33 tokens exceed the model's context of 32"):
            work()
    cache = model.new_cache(1, 32)
    assert model.logits(ids[:, :32], cache).shape == (1, 32, 48)
    with pytest.raises(SpecError, match="33 tokens exceed"):
        model.logits(ids[:, :1], cache)
