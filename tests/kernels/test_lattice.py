"""E8P and E81B: what the codebooks are, and that encoding finds a nearest point."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.tolerance import sum_bound
from lrc_kernels import lattice_tables as tables
from lrc_kernels.backend import get_kernels
from lrc_kernels.reference import nearest_point

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "codebooks.json"
CPU = get_kernels("cpu")
CODEBOOKS = {
    "e8p": (tables.e8p_points(), CPU.encode_e8p, CPU.decode_e8p),
    "e81b": (tables.e81b_points(), CPU.encode_e81b, CPU.decode_e81b),
}
every_codebook = pytest.mark.parametrize("name", CODEBOOKS)


def in_e8(x):
    doubled = np.rint(2 * x).astype(int)
    same_kind = np.ptp(doubled % 2, axis=1) == 0
    return (doubled == 2 * x).all(axis=1) & same_kind & (doubled.sum(axis=1) % 4 == 0)


def test_rows_are_the_patterns_of_the_paper():
    rows = tables.e8p_rows()
    norms, counts = np.unique((rows**2).sum(axis=1), return_counts=True)
    assert dict(zip(norms, counts, strict=True)) == {2: 1, 4: 8, 6: 28, 8: 64, 10: 126, 12: 29}
    assert len(np.unique(rows, axis=0)) == 256
    assert [tuple(r) for r in rows[:227]] == sorted(tuple(r) for r in rows[:227])


def test_row_index_finds_every_row():
    for index, row in enumerate(tables.e8p_rows()):
        five = np.flatnonzero(row > 2)
        key = sum(1 << i for i in range(8) if row[i] > 1)
        assert tables.e8p_row_index()[five[0] + 1 if five.size else 0, key] == index


def test_e8p_points_lie_in_the_shifted_lattice():
    points = tables.e8p_points()
    assert len(np.unique(points, axis=0)) == 65536
    assert in_e8(points - np.float32(0.25)).all()
    assert np.abs(points).max() == 2.75
    assert (np.abs(4 * points) % 2 == 1).all()


def test_e8p_is_closed_under_negation():
    points = tables.e8p_points()
    assert {p.tobytes() for p in points} == {p.tobytes() for p in -points}


def test_e81b_is_the_short_vectors_of_e8():
    points = tables.e81b_points()
    norms, counts = np.unique((points**2).sum(axis=1), return_counts=True)
    assert dict(zip(norms, counts, strict=True)) == {0: 1, 2: 240, 4: 15}
    assert in_e8(points).all()
    assert len(np.unique(points, axis=0)) == 256


def test_codebooks_never_change():
    """The file format is defined by these tables; a new table needs a new name."""
    golden = json.loads(GOLDEN.read_text())
    for name, (points, _, _) in CODEBOOKS.items():
        quarters = (4 * points).astype(np.int8)
        assert hashlib.sha256(quarters.tobytes()).hexdigest() == golden[name]


@every_codebook
def test_every_code_decodes_to_its_point_and_comes_back(name):
    points, encode, decode = CODEBOOKS[name]
    codes = np.arange(len(points)).astype(encode(points[:1]).dtype)
    np.testing.assert_array_equal(decode(codes), points)
    np.testing.assert_array_equal(encode(points), codes)


def distances(z, points):
    return ((z.astype(np.float64) - points.astype(np.float64)) ** 2).sum(axis=1)


def assert_nearest(name, z):
    """The distance is the least one, up to the float32 rounding of an eight-term score."""
    points, encode, _ = CODEBOOKS[name]
    codes = encode(z)
    excess = distances(z, points[codes]) - distances(z, points[nearest_point(z, points)])
    # A score is 2 <y, s> - |s|^2 with |s_i| <= 2.5, |y_i| <= |z_i| + 1/4.
    magnitude = 5 * (np.abs(z.astype(np.float64)).sum(axis=1) + 2) + 16
    assert (excess <= sum_bound(8, np.float32) * magnitude).all()
    return codes


@every_codebook
@given(
    z=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.just(8)),
        elements=st.one_of(
            st.integers(-40, 40).map(lambda k: k / 8),  # midpoints between lattice points
            st.floats(-4, 4, width=32),
            st.floats(-1e6, 1e6, width=32),
            st.just(0.0),
        ),
    )
)
def test_encoding_is_nearest_for_ties_zeros_and_far_points(name, z):
    assert_nearest(name, z)


@every_codebook
@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.03, 2.5, 50.0])
def test_encoding_equals_exhaustive_search_away_from_ties(name, sigma):
    z = (np.random.default_rng(808).standard_normal((300, 8)) * sigma).astype(np.float32)
    points = CODEBOOKS[name][0]
    codes = assert_nearest(name, z)
    np.testing.assert_array_equal(codes, nearest_point(z, points))


def test_the_29_wide_rows_are_reached():
    rng = np.random.default_rng(29)
    wide = tables.e8p_points()[np.flatnonzero(np.arange(65536) >> 8 >= tables.FIRST_WIDE_ROW)]
    z = (wide[rng.permutation(len(wide))[:400]] + rng.normal(0, 0.2, (400, 8))).astype(np.float32)
    codes = assert_nearest("e8p", z)
    assert (codes >> 8 >= tables.FIRST_WIDE_ROW).mean() > 0.5


@every_codebook
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 129])
def test_every_row_is_encoded_by_itself(name, count):
    _, encode, _ = CODEBOOKS[name]
    z = np.random.default_rng(64).standard_normal((count, 8)).astype(np.float32)
    before = z.copy()
    codes = encode(z)
    assert codes.shape == (count,)
    np.testing.assert_array_equal(codes, [encode(row[None])[0] for row in z])
    np.testing.assert_array_equal(z, before)


def test_codes_do_not_depend_on_what_lies_in_the_idle_lanes():
    z = np.random.default_rng(5).standard_normal((200, 8)).astype(np.float32)
    np.testing.assert_array_equal(CPU.encode_e8p(z)[:70], CPU.encode_e8p(z[:70]))


@every_codebook
@pytest.mark.parametrize("shape", [(8,), (2, 7), (2, 9), (1, 2, 8)])
def test_other_shapes_are_refused(name, shape):
    """A short row must never be read past its end."""
    with pytest.raises(ValueError, match=r"\(N, 8\)"):
        CODEBOOKS[name][1](np.zeros(shape, np.float32))
