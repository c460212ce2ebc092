"""Two streams of activations through the blocks of a model."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_llama import tiny_model

from lrc.calibrate.site_moment import site_moment
from lrc.calibrate.streams import CHUNK_TOKENS, Stream, _housed, window_chunks
from lrc.errors import SpecError
from lrc.testing.tolerance import assert_within, relative_difference, sum_bound

F32 = np.float32


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=8011)


@pytest.fixture(scope="module")
def parts():
    ids = np.random.default_rng(8013).integers(0, 48, (5, 12))
    return [ids[:2], ids[2:4], ids[4:]]


def start(model, parts):
    return Stream.start(tuple(model.embed(p) for p in parts))


@pytest.mark.parametrize("threads", [1, 2])
def test_site_by_site_is_the_whole_block(model, parts, threads):
    stream = start(model, parts)
    positions = np.arange(12)
    hidden = [model.embed(p) for p in parts]
    for index in range(2):
        block = model.stacks[0].load_block(index)
        stream = stream.enter(block, threads)
        for site in range(len(block.sites)):
            width = block.linears[block.sites[site].linears[0]].shape[1]
            assert all(x.shape[-1] == width for x in stream.inputs)
            stream = stream.step(block, site, threads)
        hidden = [block(h, positions) for h in hidden]
        for mine, whole in zip(stream.hidden, hidden, strict=True):
            np.testing.assert_array_equal(mine, whole)


def test_the_memory_is_the_same_from_block_to_block(model, parts):
    stream, seen = start(model, parts), []
    for index in range(2):
        block = model.stacks[0].load_block(index)
        stream = stream.enter(block, 1)
        for site in range(len(block.sites)):
            stream = stream.step(block, site, 1)
        buffers = [buffer for of_chunk in stream._buffers for buffer in of_chunk]
        seen.append(sorted((buffer.ctypes.data, buffer.nbytes) for buffer in buffers))
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 2 * len(parts)


def test_values_keep_their_numbers_whichever_buffer_they_get():
    """A value that is a view of another's buffer is not written over when that one moves."""
    a, b = np.arange(6, dtype=F32).reshape(1, 2, 3), np.arange(8, dtype=F32).reshape(1, 2, 4)
    buffers = [a.reshape(-1), b.reshape(-1)]
    fresh = {"b": b[..., 1:], "a": b * 2, "h": a, "n": np.array([1, 0])}
    expected = {name: value.copy() for name, value in fresh.items()}
    housed = _housed(fresh, {"h": a, "b": b}, buffers)
    assert list(housed) == list(fresh)
    assert housed["h"] is a
    for name, value in expected.items():
        np.testing.assert_array_equal(housed[name], value)


def test_moments_are_those_of_the_inputs_the_linears_see(model, parts):
    block = model.stacks[0].load_block(0)
    other = start(tiny_model(seed=8017), parts).enter(block, 1)
    stream = start(model, parts).enter(block, 1)
    z, x = (np.concatenate([a.reshape(-1, 32) for a in s.inputs]) for s in (stream, other))
    moment = site_moment(stream, other, 1)
    assert (moment.rows, moment.dropped) == (60, 0)
    bound = sum_bound(60, F32, float(np.abs(z).max() * max(np.abs(x).max(), np.abs(z).max())))
    wide = z.astype(np.float64)
    H = moment.matrix()
    assert_within(np.abs(H - wide.T @ wide / 60).max(), bound, "H")
    assert_within(np.abs(moment.cross() - x.T @ wide / 60).max(), bound, "C = E[x z^T]")
    alone = site_moment(stream, None, 1)
    np.testing.assert_array_equal(alone.matrix(), H)
    with pytest.raises(SpecError, match="taken already"):
        moment.matrix()


def test_the_gap_of_the_residual_streams_enters_where_asked(model, parts):
    block = model.stacks[0].load_block(0)
    other = start(tiny_model(seed=8017), parts).enter(block, 1)
    stream = start(model, parts).enter(block, 1)
    moment = site_moment(stream, other, 2, residual_gap=True)
    z = np.concatenate([a.reshape(-1, 32) for a in stream.inputs]).astype(np.float64)
    d = np.concatenate(
        [(a - b).reshape(-1, 32) for a, b in zip(other.hidden, stream.hidden, strict=True)]
    )
    bound = sum_bound(60, F32, float(np.abs(z).max() * np.abs(d).max()))
    assert_within(np.abs(moment.residual_gap() - d.T @ z / 60).max(), bound, "D = E[d z^T]")
    assert site_moment(stream, other, 1).residual_gap() is None
    assert site_moment(stream, None, 1, residual_gap=True).residual_gap() is None


def test_threads_do_not_change_a_bit_of_the_moments(model, parts):
    found = []
    for threads in (1, 2):
        block = model.stacks[0].load_block(0)
        stream = start(model, parts).enter(block, threads)
        other = start(tiny_model(seed=8017), parts).enter(block, threads)
        for site in range(3):
            stream, other = (s.step(block, site, threads) for s in (stream, other))
        moment = site_moment(stream, other, threads)
        found.append((moment.matrix(), moment.cross()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_chunks_of_windows_change_moments_by_rounding_only(model, parts):
    block = model.stacks[0].load_block(0)
    whole = [np.concatenate(parts)]
    a, b = (site_moment(start(model, p).enter(block, 1), None, 1).matrix() for p in (parts, whole))
    assert_within(relative_difference(a, b), sum_bound(60, F32), "H of other chunks")


def test_tokens_that_are_not_finite_are_counted(model, parts):
    hidden = [model.embed(p).copy() for p in parts]
    hidden[1][0, 7, 3] = np.inf
    clean, broken = Stream.start(()), Stream.start(tuple(hidden))
    assert clean.inputs == []
    stream = Stream(broken.values)
    moment = site_moment(stream, None, 1)
    assert (moment.rows, moment.dropped) == (59, 1)
    assert np.isfinite(moment.matrix()).all()


@pytest.mark.parametrize("shape", [(7, 512), (1, 4096), (3, 2048), (40, 100)])
def test_window_chunks_tile_the_windows(shape):
    windows = np.arange(shape[0] * shape[1]).reshape(shape)
    parts = window_chunks(windows)
    np.testing.assert_array_equal(np.concatenate(parts), windows)
    assert all(p.size <= max(CHUNK_TOKENS, shape[1]) for p in parts)
    assert len(parts) == -(-shape[0] // max(CHUNK_TOKENS // shape[1], 1))
