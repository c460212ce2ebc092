"""A layer with a window keeps what is still seen: the same results as where all is kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_blocks import HIDDEN, KV_HEADS, tail, windows
from tiny_llama import tiny_model

from lrc.errors import SpecError
from lrc.nn import cache as kept
from lrc.nn.attention import attention
from lrc.nn.cache import KVCache
from lrc.nn.engine import prompt_program
from lrc.nn.engine.engines import Engines
from lrc.nn.engine.team import Team
from lrc_kernels.cpu.engine import prompt as prompt_kernel
from lrc_kernels.simd import paths as simd_paths

DIM = 16
WINDOWS = (7, 0, 33)


@pytest.fixture(autouse=True)
def _prompt_engine_on_every_path(monkeypatch):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])


def tokens(count, seed=5):
    return np.random.default_rng(seed).standard_normal((count, HIDDEN)).astype(np.float32)


@given(
    window=st.integers(1, 20),
    spare=st.integers(1, 9),
    sizes=st.lists(st.integers(1, 24), min_size=1, max_size=8),
)
def test_attention_over_what_is_kept_is_that_over_all(window, spare, sizes):
    """In parts of any length, shorter and longer than there is room for; the same bits."""
    total = sum(sizes)
    q, k, v = (
        np.random.default_rng(i).standard_normal((2, total, 3, 4)).astype(np.float32)
        for i in range(3)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "SPARE", spare)
        short, long = KVCache(1, 2, 3, total, 4, (window,)), KVCache(1, 2, 3, total, 4)
        start = 0
        for size in sizes:
            part = slice(start, start + size)
            for _ in range(2):  # once more, as after an interrupt
                found = short.append(0, k[:, part], v[:, part], window)
            expected = long.append(0, k[:, part], v[:, part], window)
            np.testing.assert_array_equal(
                attention(q[:, part], *found, window), attention(q[:, part], *expected, window)
            )
            for cache in (short, long):
                cache.advance(size)
            start += size


def run(engines, cache, threads, parts):
    """Outputs after every part: by the prompt's loop, or one token after the other."""
    decode, prompt = engines.decode(Team(threads)), engines.prompt(Team(threads))
    found, start, rows = [], 0, tokens(sum(abs(p) for p in parts))
    for part in parts:
        these = rows[start : start + abs(part)]
        if part > 0:
            found.append(prompt.advance(these, cache).copy())
        else:
            found += [decode.step(row, cache).copy() for row in these]
        start += abs(part)
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("parts", [(-90,), (90,), (40, -20, 30, -1), (-3, 60, -20)], ids=str)
def test_compiled_loops_give_the_same_bits(monkeypatch, parts, threads):
    monkeypatch.setattr(kept, "SPARE", 4)
    engines = Engines(HIDDEN, windows(), tail())
    total = sum(abs(part) for part in parts)
    whole = run(engines, KVCache(3, 1, KV_HEADS, total, DIM), threads, parts)
    found = run(engines, KVCache(3, 1, KV_HEADS, total, DIM, WINDOWS), threads, parts)
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_engines_know_of_a_cache_holds_until_it_moves(monkeypatch):
    monkeypatch.setattr(kept, "SPARE", 4)
    engine = Engines(HIDDEN, windows(), tail()).decode(Team(1))
    cache, seen = KVCache(3, 1, KV_HEADS, 30, DIM, WINDOWS), []
    for row in tokens(30):
        engine.step(row, cache)
        seen.append(engine._scratch.cached_now())
    moved = [i for i in range(1, 30) if seen[i] is not seen[i - 1]]
    assert moved == [11, 16, 21, 26]


def test_an_interrupted_prompt_leaves_the_cache_as_it_was(monkeypatch):
    monkeypatch.setattr(kept, "SPARE", 4)
    engines, rows = Engines(HIDDEN, windows(), tail()), tokens(80)
    engine, cache = engines.prompt(Team(1)), KVCache(3, 1, KV_HEADS, 80, DIM, WINDOWS)
    engine.advance(rows[:50], cache)
    calls, run_prompt = [], prompt_kernel.run_prompt

    def failing(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run_prompt(*args)

    failing.signatures = run_prompt.signatures
    monkeypatch.setattr(prompt_kernel, "run_prompt", failing)
    with pytest.raises(KeyboardInterrupt):
        engine.advance(rows[50:], cache)
    assert cache.length == 50
    found = engine.advance(rows[50:], cache)
    again = KVCache(3, 1, KV_HEADS, 80, DIM)
    np.testing.assert_array_equal(found, engine.advance(rows, again))


def test_a_model_with_windows_needs_room_for_them_alone():
    changes = {"num_hidden_layers": 4, "max_position_embeddings": 1 << 20}
    full = tiny_model(**changes)
    windowed = tiny_model(
        model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=100, **changes
    )
    long = [model.new_cache(1, 1 << 15).nbytes for model in (full, windowed)]
    assert long[0] == 4 * 2 * 32 * 4 << 15
    assert long[1] == 4 * 2 * 32 * 4 * (100 + kept.SPARE)
    short = [model.new_cache(1, 300).nbytes for model in (full, windowed)]
    assert short[0] == short[1]


@pytest.mark.parametrize("window", [0, 8])
def test_who_sees_more_than_is_kept_is_refused(window):
    cache = KVCache(1, 1, 1, 5000, 4, (7,))
    k = np.zeros((1, 2, 1, 4), np.float32)
    with pytest.raises(SpecError, match="keeps 7 tokens, and this model sees"):
        cache.append(0, k, k, window)


def test_engines_refuse_caches_that_keep_less_than_they_see():
    engines = Engines(HIDDEN, windows(), tail())
    cache = KVCache(3, 1, KV_HEADS, 5000, DIM, (7, 7, 33))
    with pytest.raises(SpecError, match="no layer 1 of 2 heads of 16 numbers that keeps all"):
        engines.decode(Team(1)).step(tokens(1)[0], cache)
    with pytest.raises(SpecError, match="make one with this model's new_cache"):
        engines.prompt(Team(1)).advance(tokens(4), cache)


@given(
    window=st.integers(0, 20),
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    length=st.integers(0, 72),
    more=st.integers(1, 9),
)
def test_a_cache_that_goes_back_is_one_that_never_saw_the_rest(window, parts, length, more):
    q, k, v = (
        np.random.default_rng(i).standard_normal((1, 90, 3, 4)).astype(np.float32) for i in range(3)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "SPARE", 5)
        cache, whole = KVCache(1, 1, 3, 90, 4, (window,)), KVCache(1, 1, 3, 90, 4)
    for part in parts:
        new = slice(cache.length, cache.length + part)
        cache.append(0, k[:, new], v[:, new], window)
        cache.advance(part)
    if not cache.can_rewind(length):
        assert length > sum(parts) or window
        with pytest.raises(SpecError, match="cannot go back"):
            cache.rewind(length)
        return
    cache.rewind(length)
    whole.append(0, k[:, :length], v[:, :length])
    whole.advance(length)
    assert cache.length == length
    new = slice(length, length + more)
    found = cache.append(0, -k[:, new], -v[:, new], window)
    expected = whole.append(0, -k[:, new], -v[:, new], window)
    np.testing.assert_array_equal(
        attention(q[:, new], *found, window), attention(q[:, new], *expected, window)
    )


def test_states_go_back_to_the_beginning_alone():
    cache = KVCache(0, 1, 1, 9, 4, states={"s": (2,)})
    cache.carry("s", np.ones((1, 2), np.float32))
    cache.advance(3)
    assert [cache.can_rewind(length) for length in range(5)] == [True, False, False, True, False]
    cache.rewind(3)
    assert cache.states["s"].all()
    cache.rewind(0)
    assert cache.length == 0
    assert not cache.states["s"].any()
