"""Products with packed matrices equal the decoded matrix times the vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.tolerance import sum_bound
from lrc_kernels.backend import get_kernels

CPU = get_kernels("cpu")
REFERENCE = get_kernels("reference")
RESIDUAL = {"matvec_e8p_rvq3": np.uint8, "matvec_e8p_rvq4": np.uint16}
shapes = {"m": st.integers(1, 5), "k": st.integers(1, 9), "seed": st.integers(3, 2**32)}


def random_codes(rng, shape, dtype):
    return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def assert_sums_agree(fast, slow, x, largest):
    """``largest`` bounds the magnitude of a decoded weight."""
    assert fast.dtype == np.float32
    bound = sum_bound(x.size, np.float32, largest * float(np.abs(x).sum()))
    assert np.abs(fast - slow).max() <= bound


@given(**shapes)
def test_e8p(m, k, seed):
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, (m, k), np.uint16)
    x = rng.standard_normal(8 * k).astype(np.float32)
    assert_sums_agree(CPU.matvec_e8p(codes, x), REFERENCE.matvec_e8p(codes, x), x, 2.75)


@pytest.mark.parametrize("name", RESIDUAL)
@given(**shapes)
def test_residual_codebooks(name, m, k, seed):
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, (m, k), np.uint16)
    rest = random_codes(rng, (m, k), RESIDUAL[name])
    x = rng.standard_normal(8 * k).astype(np.float32)
    fast = getattr(CPU, name)(codes, rest, 3.0, x)
    assert_sums_agree(fast, getattr(REFERENCE, name)(codes, rest, 3.0, x), x, 3.75)


@given(
    bits=st.integers(2, 8),
    m=st.integers(1, 4),
    n=st.integers(1, 70),
    group=st.sampled_from([0, 1, 5, 16, 32]),
    shared=st.booleans(),
    seed=st.integers(3, 2**32),
)
def test_levels(bits, m, n, group, shared, seed):
    rng = np.random.default_rng(seed)
    words = CPU.pack_bits(rng.integers(0, 2**bits, (m, n)).astype(np.uint8), bits)
    table = np.sort(rng.uniform(-2, 2, 2**bits)).astype(np.float32)
    scales = rng.uniform(0.5, 2, (1 if shared else m, -(-n // (group or n)))).astype(np.float32)
    x = rng.standard_normal(n).astype(np.float32)
    arguments = (words, bits, table, scales, group, x)
    assert_sums_agree(CPU.matvec_levels(*arguments), REFERENCE.matvec_levels(*arguments), x, 4.0)


def test_rows_are_summed_by_themselves():
    """Cutting the rows anywhere changes no bit, so threads cannot."""
    rng = np.random.default_rng(31)
    codes = random_codes(rng, (33, 40), np.uint16)
    x = rng.standard_normal(320).astype(np.float32)
    whole = CPU.matvec_e8p(codes, x)
    parts = [CPU.matvec_e8p(codes[a:b], x) for a, b in ((0, 1), (1, 20), (20, 33))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_memory_mapped_codes(tmp_path):
    rng = np.random.default_rng(13)
    codes = random_codes(rng, (4, 6), np.uint16)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    x = rng.standard_normal(48).astype(np.float32)
    np.testing.assert_array_equal(CPU.matvec_e8p(mapped, x), CPU.matvec_e8p(codes, x))


def test_wrong_lengths_are_refused():
    """A short vector must never be read past its end."""
    codes = np.zeros((2, 4), np.uint16)
    short = np.zeros(31, np.float32)
    with pytest.raises(ValueError, match=r"\(31,\)"):
        CPU.matvec_e8p(codes, short)
    with pytest.raises(ValueError, match="do not fit"):
        CPU.matvec_levels(
            np.zeros((2, 4), np.uint8), 4, np.zeros(16, np.float32), np.ones((1, 1), np.float32),
            0, short,
        )  # fmt: skip
    with pytest.raises(ValueError, match="second stage"):
        CPU.matvec_e8p_rvq4(codes, codes[:, :2], 3.0, np.zeros(32, np.float32))
