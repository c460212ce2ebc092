"""Streamed moments: independent of chunks and order, safe against tokens that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import CalibrationError, SpecError
from lrc.linalg import precision
from lrc.linalg import second_moment as second_moment_module
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import chunk_moment, token_rows
from lrc.testing.strategies import seeds
from lrc.testing.tolerance import assert_within, sum_bound

BAD = (np.nan, np.inf, -np.inf)


def streams(tokens, n, seed):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((tokens, n)).astype(np.float32)
    return z, (z + 0.1 * rng.standard_normal((tokens, n))).astype(np.float32)


def moment_of(z, x, cuts):
    moment = SecondMoment(z.shape[1], cross=x is not None)
    for part in np.split(np.arange(len(z)), cuts):
        moment.add(chunk_moment(z[part], x[part] if x is not None else None))
    return moment


@given(data=st.data())
def test_chunks_do_not_matter(data):
    tokens, n = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 9))
    z, x = streams(tokens, n, data.draw(seeds()))
    cuts = sorted(data.draw(st.lists(st.integers(0, tokens), max_size=4)))
    before = z.copy(), x.copy()
    moment = moment_of(z, x, cuts)
    H, C = moment.matrix(), moment.cross()
    wide, other = z.astype(np.float64), x.astype(np.float64)
    size = float(np.abs(wide).max() * np.abs(other).max() + np.square(wide).max())
    bound = sum_bound(tokens, np.float32, size)
    assert_within(np.abs(H - wide.T @ wide / tokens).max(), bound, "H")
    assert_within(np.abs(C - other.T @ wide / tokens).max(), bound, "C = E[x z^T]")
    np.testing.assert_array_equal(H, H.T)
    assert (moment.rows, moment.dropped) == (tokens, 0)
    np.testing.assert_array_equal(z, before[0])
    np.testing.assert_array_equal(x, before[1])


@given(data=st.data())
def test_rows_added_in_parts_are_the_products(data):
    """As wide moments are summed: float32, one triangle, any number of threads."""
    tokens, n = data.draw(st.integers(1, 40)), data.draw(st.integers(2, 9))
    z, x = streams(tokens, n, data.draw(seeds()))
    cut = data.draw(st.integers(0, tokens))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "WIDE", 2)
        patch.setattr(second_moment_module, "_ADDED_ROWS", 3)
        for threads in (1, 2):
            moment = SecondMoment(n, cross=True, residual_gap=n)
            for part in (slice(0, cut), slice(cut, tokens)):
                moment.add_rows(token_rows(z[part], x[part], (z - x)[part]), threads)
            assert (moment.rows, moment.effective_rows) == (tokens, tokens)
            found.append((moment.matrix(), moment.cross(), moment.residual_gap()))
    wide = z.astype(np.float64)
    bound = 2 * sum_bound(tokens, np.float32, 30.0)
    for one, two, left in zip(*found, (z, x, z - x), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, two)
        assert_within(np.abs(one - left.astype(np.float64).T @ wide / tokens).max(), bound)
    np.testing.assert_array_equal(found[0][0], found[0][0].T)


@given(data=st.data())
def test_tokens_that_are_not_finite_are_left_out_and_counted(data):
    tokens, n = 24, 5
    z, x = streams(tokens, n, data.draw(seeds()))
    marks = st.tuples(
        st.sampled_from("zx"),
        st.integers(0, tokens - 1),
        st.integers(0, n - 1),
        st.sampled_from(BAD),
    )
    gone = set()
    for stream, row, column, bad in data.draw(st.lists(marks, max_size=6)):
        (z if stream == "z" else x)[row, column] = bad
        gone.add(row)
    kept = np.array([i for i in range(tokens) if i not in gone])
    moment, clean = moment_of(z, x, [7, 16]), moment_of(z[kept], x[kept], [])
    assert (moment.rows, moment.dropped) == (len(kept), len(gone))
    bound = sum_bound(tokens, np.float32, 30.0)
    assert_within(np.abs(moment.matrix() - clean.matrix()).max(), bound)
    assert_within(np.abs(moment.cross() - clean.cross()).max(), bound)


@pytest.mark.parametrize("bad", [*BAD, 1e25])
def test_one_stream_drops_its_own_bad_tokens(bad):
    """A finite value whose square overflows would poison H just the same."""
    z, _ = streams(6, 4, 87)
    z[2, 1] = bad
    found = chunk_moment(z)
    assert (found.rows, found.dropped) == (5, 1)
    assert found.cross is None
    assert np.isfinite(found.second).all()


def test_sums_over_chunks_are_wide():
    """2^24 + 1 is no float32: a float32 running sum would lose every later chunk."""
    moment = SecondMoment(1)
    moment.add(chunk_moment(np.full((1, 1), 4096.0, np.float32)))
    for _ in range(8):
        moment.add(chunk_moment(np.ones((1, 1), np.float32)))
    assert moment.matrix()[0, 0] * 9 == 2**24 + 8


def test_nothing_finite_is_an_error():
    moment = SecondMoment(3, cross=True)
    bad = np.full((4, 3), np.nan, np.float32)
    moment.add(chunk_moment(bad, bad))
    for read in (moment.matrix, moment.cross):
        with pytest.raises(CalibrationError, match="no finite activation among 4 tokens"):
            read()


def test_misuse_is_refused():
    z, x = streams(3, 4, 88)
    with pytest.raises(SpecError, match="must agree"):
        chunk_moment(z, x[:2])
    with pytest.raises(SpecError, match="width 4 added to moment of 5"):
        SecondMoment(5).add(chunk_moment(z))
    with pytest.raises(SpecError, match="both streams"):
        SecondMoment(4, cross=True).add(chunk_moment(z))
    moment = SecondMoment(4)
    moment.add(chunk_moment(z))
    with pytest.raises(SpecError, match="one stream"):
        moment.cross()


@given(data=st.data())
def test_weights_multiply_rows(data):
    """As rows that were multiplied before, over the sum of the squares."""
    tokens, n = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 7))
    z, x = streams(tokens, n, data.draw(seeds()))
    w = np.random.default_rng(data.draw(seeds())).uniform(0.1, 1, tokens).astype(np.float32)
    found = SecondMoment(n, cross=True, residual_gap=n)
    found.add(chunk_moment(z, x, z - x, w))
    total = np.square(w, dtype=np.float64).sum()
    assert found.effective_rows == pytest.approx(total**2 / (w.astype(np.float64) ** 4).sum())
    assert 1 - 1e-9 <= found.effective_rows <= tokens * (1 + 1e-9)
    wide = (z * w[:, None]).astype(np.float64)
    for got, other in ((found.matrix(), z), (found.cross(), x), (found.residual_gap(), z - x)):
        expected = (other * w[:, None]).astype(np.float64).T @ wide / total
        assert_within(np.abs(got - expected).max(), sum_bound(tokens, np.float32, 30.0))


def test_weights_of_rows_that_are_not_finite_do_not_count():
    z, _ = streams(5, 3, 4)
    w = np.arange(1, 6, dtype=np.float32)
    z[2] = np.nan
    kept = np.array([0, 1, 3, 4])
    found, clean = chunk_moment(z, weights=w), chunk_moment(z[kept], weights=w[kept])
    np.testing.assert_array_equal(found.second, clean.second)
    assert (found.weight, found.spread, found.dropped) == (clean.weight, clean.spread, 1)


def shrunk(own, shared):
    own.shrink_to(shared)
    return own


@given(data=st.data())
def test_few_rows_move_towards_others_of_their_shape(data):
    """H is between both, of its own size; with equal streams C stays H; nothing of others moves."""
    n = data.draw(st.integers(1, 8))
    few, many = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 60))
    z, _ = streams(few, n, data.draw(seeds()))
    others, _ = streams(many, n, data.draw(seeds()))
    others *= np.float32(10.0)
    shared = moment_of(others, others, [])
    moved = shrunk(moment_of(z, z, []), shared.sums())
    prior = min(n, many)
    assert moved.borrowed == pytest.approx(prior / (few + prior))
    H, of_others = moved.matrix(), shared.matrix()
    np.testing.assert_allclose(moved.cross(), H, rtol=1e-6, atol=1e-6 * np.abs(H).max())
    np.testing.assert_array_equal(of_others, moment_of(others, None, []).matrix())
    if not few:
        np.testing.assert_allclose(H, of_others, rtol=1e-6)
        assert moved.effective_rows == pytest.approx(many)
        return
    alone = moment_of(z, None, []).matrix()
    assert np.trace(H) == pytest.approx(np.trace(alone))
    expected = (few * alone + prior * of_others * np.trace(alone) / np.trace(of_others)) / (
        few + prior
    )
    np.testing.assert_allclose(H, expected, rtol=1e-4, atol=1e-4 * np.abs(H).max())
    least = min(few, many)
    assert least * 0.99 <= moved.effective_rows <= (few + many) * 1.01


def test_a_gap_moves_towards_none():
    z, x = streams(6, 4, 3)
    own = SecondMoment(4, cross=True, residual_gap=4)
    own.add(chunk_moment(z, x, z - x))
    own.shrink_to(moment_of(*streams(50, 4, 5), []).sums())
    expected = 0.6 * (z - x).astype(np.float64).T @ z / 6
    np.testing.assert_allclose(own.residual_gap(), expected, rtol=1e-5)


def test_two_streams_move_towards_two():
    z, x = streams(6, 4, 3)
    with pytest.raises(SpecError, match="two-stream"):
        moment_of(z, x, []).shrink_to(moment_of(z, None, []).sums())


def test_moving_towards_nothing_changes_nothing():
    z, _ = streams(6, 4, 3)
    own = shrunk(moment_of(z, None, []), SecondMoment(4).sums())
    np.testing.assert_array_equal(own.matrix(), moment_of(z, None, []).matrix())
    with pytest.raises(CalibrationError):
        shrunk(SecondMoment(4), SecondMoment(4).sums()).matrix()
