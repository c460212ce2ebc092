"""Scalar tables and the layout of planes."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from lrc.codebooks import CODEBOOKS, get_codebook
from lrc.codebooks.levels import levels
from lrc.errors import FormatError
from lrc_kernels.backend import get_kernels
from lrc_kernels.trellis_code import tile_rows

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "codebooks.json"
every_width = pytest.mark.parametrize("bits", range(2, 9))


def upper_tail(x):
    return math.erfc(x / math.sqrt(2)) / 2


def density(x):
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@every_width
def test_lloyd_max_levels_are_the_means_of_their_cells(bits):
    table = levels("lloyd-max", bits).astype(float)
    edges = [-math.inf, *((table[1:] + table[:-1]) / 2), math.inf]
    for level, low, high in zip(table, edges[:-1], edges[1:], strict=True):
        mean = (density(low) - density(high)) / (upper_tail(low) - upper_tail(high))
        # Rounding moves a level by half a unit, and the edges by as much.
        assert abs(level - mean) <= (table[-1] / 127 if bits <= 4 else 1.5e-5)


@pytest.mark.parametrize("bits", [2, 3])
def test_lloyd_max_levels_are_those_of_the_paper(bits):
    """Max 1960, table I."""
    published = {2: (0.4528, 1.510), 3: (0.2451, 0.7560, 1.344, 2.152)}[bits]
    np.testing.assert_allclose(levels("lloyd-max", bits)[2 ** (bits - 1) :], published, atol=0.009)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_narrow_tables_fit_int8(bits):
    table = levels("lloyd-max", bits).astype(float)
    integers = table / (table[-1] / 127)
    np.testing.assert_allclose(integers, np.rint(integers), atol=1e-4)


@every_width
def test_tables_never_change(bits):
    golden = json.loads(GOLDEN.read_text())
    table = levels("lloyd-max", bits).astype("<f4")
    assert hashlib.sha256(table.tobytes()).hexdigest() == golden[f"lloyd-max-{bits}"]


@every_width
@pytest.mark.parametrize("codebook", ["uniform", "lloyd-max"])
def test_tables_are_ascending_symmetric_and_shared(codebook, bits):
    table = levels(codebook, bits)
    assert table.shape == (2**bits,)
    assert (np.diff(table) > 0).all()
    np.testing.assert_array_equal(table, -table[::-1])
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


@every_width
def test_uniform_levels(bits):
    count = 2**bits
    expected = [(2 * c - (count - 1)) / 2 for c in range(count)]
    np.testing.assert_array_equal(levels("uniform", bits), expected)


@pytest.mark.parametrize(("codebook", "bits"), [("e8p", 2), ("lloyd-max", 1), ("uniform", 9)])
def test_unknown_tables_are_refused(codebook, bits):
    with pytest.raises(FormatError, match="no scalar codebook"):
        levels(codebook, bits)


UNKNOWN = [("e8p", 3), ("vq", 2), ("uniform", 1), ("none", 0), ("trellis12", 5), ("trellis7", 2)]
TRELLIS = [name for name, row in CODEBOOKS.items() if row.family == "trellis"]


@pytest.mark.parametrize(("codebook", "bits"), UNKNOWN)
def test_unknown_codebooks_are_refused(codebook, bits):
    with pytest.raises(FormatError, match="no codebook"):
        get_codebook(codebook, bits)


def test_planes_of_the_wrong_shape_or_dtype_are_refused():
    with pytest.raises(FormatError, match="must be"):
        get_codebook("e8p", 2).check([np.zeros((3, 2), np.uint16)], 3, 24)
    with pytest.raises(FormatError, match="must be"):
        get_codebook("e8p", 2).check([np.zeros((3, 2), np.int16)], 3, 16)


@pytest.mark.parametrize(("m", "rows"), [(16, 16), (48, 16), (192, 64), (576, 64), (4096, 256)])
@pytest.mark.parametrize("n", [1, 7, 130])
def test_a_trellis_has_bands_of_tiles(m, rows, n):
    for codebook in TRELLIS:
        for bits in (2, 3, 4):
            ((dtype, shape),) = get_codebook(codebook, bits).layout(m, n)
            assert dtype == np.uint16
            assert shape == (m // rows, -(-n * rows // 256) * 16 * bits)
    assert get_codebook("trellis8", 2).band(m) == rows == tile_rows(m)
    assert get_codebook("e8p", 2).band(m) == 1


def test_a_trellis_needs_rows_by_16():
    with pytest.raises(FormatError, match="multiples of 16, not 24"):
        get_codebook("trellis12", 2).layout(24, 8)


@pytest.mark.parametrize(
    ("codebook", "bits"), [("trellis8", 2), ("trellis12", 3), ("trellis16", 4)]
)
def test_bands_of_a_trellis_decode_by_themselves(codebook, bits):
    m, n = 192, 21
    ((_, shape),) = get_codebook(codebook, bits).layout(m, n)
    words = np.random.default_rng(bits).integers(0, 1 << 16, shape).astype(np.uint16)
    found = get_codebook(codebook, bits)
    whole = found.values([words], n, 64)
    state_bits = int(codebook.removeprefix("trellis"))
    expected = get_kernels("reference").decode_trellis(words, bits, state_bits, 64, n)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(found.values([words[1:]], n, 64), whole[64:])
    with pytest.raises(FormatError, match="must be"):
        found.check([words[:, 1:]], m, n)
