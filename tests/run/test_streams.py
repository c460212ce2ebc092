"""Streams give what texts alone give, whatever was in their caches before."""

import hypothesis.strategies as st
import numpy as np
import pytest
from budget import few
from engine_checks import assert_close, on_15_bits
from hypothesis import given
from packed_models import packed_model
from tiny_llama import tiny_model

from lrc.nn.engine import prompt_program
from lrc.run.streams import BATCHED, Streams
from lrc_kernels.simd import paths as simd_paths

MODEL = tiny_model(seed=19, num_key_value_heads=2)
IDS = st.lists(st.integers(0, 3), min_size=1, max_size=12)
TRELLIS = {"codebook": ("trellis12", 3)}


@pytest.fixture(autouse=True)
def _prompt_engine_on_every_path(monkeypatch):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])


@given(IDS, IDS)
@few(4)
def test_a_common_beginning_is_not_read_again_and_changes_nothing(first, second):
    (stream,) = Streams(MODEL, 1, 40).streams
    stream.begin(first)
    stream.read(first)
    length = stream.begin(second)
    expected = 0
    while expected < min(len(first), len(second) - 1) and first[expected] == second[expected]:
        expected += 1
    assert length == expected == len(stream.ids)
    logits = stream.read(second[length:]).copy()
    assert stream.ids == second
    (fresh,) = Streams(MODEL, 1, 40).streams
    np.testing.assert_allclose(logits, fresh.read(second), rtol=1e-4, atol=1e-4)
    assert stream.begin(second, reuse=False) == 0
    assert stream.ids == []


@pytest.mark.parametrize("count", [1, BATCHED - 1, BATCHED, 7])
def test_a_step_of_all_is_a_step_of_each(count):
    model = packed_model({"intermediate_size": 64}, **TRELLIS)
    prompts = np.random.default_rng(4).integers(0, 48, (count, 9)).tolist()
    together = Streams(model, count, 20)
    assert together.batches == (count >= BATCHED)
    alone = Streams(model, count, 20, batch=False)
    assert not alone.batches
    for streams in (together, alone):
        for i, stream in enumerate(streams.streams):
            on_15_bits(stream.decoder._engine)
            stream.read(prompts[i][: i + 3])
    for token in ([5] * count, list(range(count))):
        found = together.step(together.streams, token)
        expected = alone.step(alone.streams, token)
        for a, b in zip(found, expected, strict=True):
            assert_close(np.asarray(a)[None], np.asarray(b)[None], 2.0**-4)
    for i, stream in enumerate(together.streams):
        assert stream.ids == [*prompts[i][: i + 3], 5, i]
        assert stream.decoder.cache.length == i + 5


@pytest.mark.parametrize(
    "make", [lambda: MODEL, lambda: packed_model({"intermediate_size": 64}, **TRELLIS)]
)
def test_outputs_are_those_of_the_last_tokens(make):
    model = make()
    whole, parts = Streams(model, 2, 20).streams
    ids = [1, 7, 30, 4, 9, 11]
    rows = whole.outputs(ids)
    for i in range(2, 7, 2):
        last = parts.outputs(ids[i - 2 : i])
        np.testing.assert_allclose(last, rows[i - 2 : i], rtol=1e-3, atol=1e-3)
    assert whole.ids == parts.ids == ids
