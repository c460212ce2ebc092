"""The batch engine on packed models: what a sequence gives does not depend on the others."""

import numpy as np
import pytest
from engine_checks import assert_close
from packed_models import packed_model

from lrc.errors import SpecError
from lrc.nn.engine import prompt_program
from lrc.nn.engine.team import Team
from lrc_kernels.simd import paths as simd_paths

IDS = np.random.default_rng(41).integers(0, 48, (9, 30))
LENGTHS = (3, 21, 1, 12, 8, 17, 2, 5, 11)
MOST = 30


@pytest.fixture(autouse=True)
def _prompt_engine_on_every_path(monkeypatch):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])


@pytest.fixture(scope="module")
def model():
    options = {"codebook": ("trellis12", 3), "rank": 3}
    return packed_model({"intermediate_size": 64}, **options)


def cached(model, numbers, most=MOST):
    """Caches of the beginnings of texts, and the tokens that come next."""
    engine, caches = model.engines().prompt(Team(1)), []
    for i in numbers:
        caches.append(model.new_cache(1, most))
        engine.advance(model.embed(IDS[i, : LENGTHS[i]]), caches[-1])
    return caches, model.embed(np.array([IDS[i, LENGTHS[i]] for i in numbers]))


def step(model, numbers, threads=1):
    caches, rows = cached(model, numbers)
    return model.engines().batch(Team(threads)).step(rows, caches).copy()


def test_each_gives_what_it_gives_alone(model):
    together = step(model, range(9))
    for i in range(9):
        np.testing.assert_array_equal(step(model, [i])[0], together[i])
    np.testing.assert_array_equal(step(model, [4, 1], 2), together[[4, 1]])


def test_it_is_what_the_blocks_give(model):
    together = step(model, range(9))
    for i, length in enumerate(LENGTHS):
        expected = model.hidden(IDS[i : i + 1, : length + 1])[0, -1]
        assert_close(together[i : i + 1], expected[None])


def test_buffers_grow_with_the_batch(model):
    engine = model.engines().batch(Team(1))
    for numbers in ([2], range(9), [1, 2]):
        caches, rows = cached(model, numbers)
        found = engine.step(rows, caches)
        np.testing.assert_array_equal(found, step(model, numbers))


def test_several_tokens_give_what_they_give_one_by_one(model):
    engine, counts = model.engines().batch(Team(1)), [3, 1, 4]
    caches, _ = cached(model, range(3))
    others, _ = cached(model, range(3))
    ids = [IDS[3 + i, :count] for i, count in enumerate(counts)]
    rows = [model.embed(own, cache.length) for own, cache in zip(ids, caches, strict=True)]
    together = np.split(engine.read(np.concatenate(rows), counts, caches).copy(), [3, 4])
    for own, found, cache, other in zip(rows, together, caches, others, strict=True):
        alone = [engine.step(row[None], [other])[0].copy() for row in own]
        np.testing.assert_array_equal(found, alone)
        assert cache.length == other.length
    with pytest.raises(SpecError, match=r"parts of \[3, 1\]"):
        engine.read(np.concatenate(rows), counts[:2], caches[:2])


def test_caches_that_do_not_fit_are_refused(model):
    engine = model.engines().batch(Team(1))
    caches, rows = cached(model, [0, 1])
    with pytest.raises(SpecError, match="as many caches of one length"):
        engine.step(rows[:1], caches)
    other, _ = cached(model, [1], MOST + 1)
    with pytest.raises(SpecError, match="as many caches of one length"):
        engine.step(rows, [caches[0], *other])
    full = model.new_cache(1, LENGTHS[0])
    full.advance(LENGTHS[0])
    with pytest.raises(SpecError, match="the cache holds 3 tokens and 4"):
        engine.step(rows[:1], [full])
