"""Text that a model writes itself: it follows the model, for any threads and any memory."""

from __future__ import annotations

import numpy as np
import pytest
from model_families import FAMILIES
from tiny_llama import tiny_model

import lrc.calibrate.self_text
from lrc.calibrate.self_text import ROWS, sample_batch
from lrc.errors import SpecError

MODEL = tiny_model(seed=19, num_key_value_heads=2)


class Bars:
    """Progress that counts."""

    def __init__(self):
        self.total, self.done = 0, 0

    def bar(self, description, total, unit):
        self.total = total
        return self

    def __enter__(self):
        return self.advance

    def __exit__(self, *error):
        return None

    def advance(self, n=1):
        self.done += n

    def note(self, text):
        raise AssertionError(text)


def test_batches_do_not_depend_on_threads():
    bars = Bars()
    one = sample_batch(MODEL, ROWS + 3, 24, 77, threads=1, progress=bars)
    two = sample_batch(MODEL, ROWS + 3, 24, 77, threads=2)
    np.testing.assert_array_equal(one, two)
    assert one.shape == (ROWS + 3, 24)
    assert one.dtype == np.int32
    assert (one[:, 0] == 1).all()
    assert bars.done == bars.total == (ROWS + 3) * 23
    other = sample_batch(MODEL, ROWS + 3, 24, 78, threads=1, bos_id=9)
    assert (other[:, 0] == 9).all()
    assert (other[:, 1:] != one[:, 1:]).mean() > 0.5


def check_follows(model, ids, seed):
    """Every token is the one that inverting the full forward's distribution gives."""
    count, length = ids.shape
    spawned = np.random.SeedSequence(seed).spawn(count)
    draws = [np.random.default_rng(s).random(length) for s in spawned]
    logits = model.logits(ids)
    for row, t in np.ndindex(count, length - 1):
        p = np.exp(logits[row, t] - logits[row, t].max(), dtype=np.float64)
        p /= p.sum()
        edges = np.cumsum(p)
        token, u = ids[row, t + 1], draws[row][t]
        assert edges[token] - p[token] - 1e-4 <= u <= edges[token] + 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_text_follows_the_model_on_any_number_of_threads(family):
    """More sequences than are attended to together, and longer than the windows of a case."""
    model = next(iter(FAMILIES[family].values())).model(3)
    ids = sample_batch(model, 11, 10, 5, threads=1)
    check_follows(model, ids, 5)
    np.testing.assert_array_equal(ids, sample_batch(model, 11, 10, 5, threads=2))


def test_what_exceeds_the_memory_is_written_in_parts(monkeypatch):
    """Parts are of about one size, and each sequence draws what it draws beside others."""
    caches, made = [], MODEL.new_cache

    def seen(batch, tokens):
        caches.append(batch)
        return made(batch, tokens)

    monkeypatch.setattr(type(MODEL), "new_cache", lambda _, *shape: seen(*shape))
    each = made(1, 11).nbytes
    monkeypatch.setattr(lrc.calibrate.self_text, "CACHE_BYTES", 4 * each)
    ids = sample_batch(MODEL, 9, 12, 5)
    assert caches == [1, 3, 3, 3]
    check_follows(MODEL, ids, 5)
    monkeypatch.setattr(lrc.calibrate.self_text, "CACHE_BYTES", each // 2)
    check_follows(MODEL, sample_batch(MODEL, 3, 12, 5), 5)
    assert caches[4:] == [1, 1, 1, 1]


def test_a_single_token_is_bos():
    np.testing.assert_array_equal(sample_batch(MODEL, 2, 1, 5), [[1], [1]])


def test_senseless_batches_are_refused():
    with pytest.raises(SpecError, match="context of 256"):
        sample_batch(MODEL, 2, 257, 5)
    with pytest.raises(SpecError, match="0 sequences"):
        sample_batch(MODEL, 0, 8, 5)


def test_without_a_bos_every_sequence_begins_at_random():
    model = tiny_model(bos_token_id=None)
    found = sample_batch(model, 64, 3, 5)
    assert len(set(found[:, 0])) > 24  # of 48 tokens, 64 draws reach 35 on average
    assert found[:, 0].min() >= 0
    assert found[:, 0].max() < 48
    np.testing.assert_array_equal(found, sample_batch(model, 64, 3, 5, threads=2))
    assert (found[:, 0] != sample_batch(model, 64, 3, 6)[:, 0]).any()
    assert (sample_batch(model, 4, 3, 5, bos_id=9)[:, 0] == 9).all()
