"""Embedding tables: rows decode alone, and the error in the report is the real one."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import codes_of

import lrc.quant.table as table_module
from lrc.errors import SpecError
from lrc.quant.table import GROUP_SIZE, quantize_table
from lrc.testing.strategies import weights
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

F32 = np.float32


@few(2)
@given(data=st.data(), bits=st.integers(4, 8))
def test_reported_error_is_measured_and_small(data, bits):
    m, n = data.draw(st.integers(1, 10)), data.draw(st.integers(1, 150))
    table = data.draw(weights(m, n))
    before = table.copy()
    packed, record = quantize_table(table, bits)
    assert packed.shape == (m, n)
    assert packed.rotation == "none"
    error = relative_difference(packed.to_dense(), table)
    assert_within(abs(error - record["relative_error"]), factor_bound(n, F32), "reported error")
    assert record["weight_error"] == record["relative_error"]
    np.testing.assert_array_equal(table, before)


def test_error_falls_by_half_a_bit():
    table = np.random.default_rng(6201).standard_normal((40, 256)).astype(F32)
    errors = [quantize_table(table, bits)[1]["relative_error"] for bits in range(4, 9)]
    ratios = np.array(errors[:-1]) / errors[1:]
    assert (ratios > 1.7).all()
    assert errors[-1] < 0.008


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_stored_bits_are_codes_and_a_float16_a_group(bits):
    packed, _ = quantize_table(np.ones((3, 2 * GROUP_SIZE), F32), bits)
    assert packed.stored_bits == 3 * (2 * GROUP_SIZE * bits + 2 * 16) + 32


def test_chunks_of_rows_do_not_matter(monkeypatch):
    table = np.random.default_rng(6203).standard_normal((11, 70)).astype(F32)
    whole, record = quantize_table(table, 5)
    monkeypatch.setattr(table_module, "_CHUNK_ROWS", 4)
    parts, other = quantize_table(table, 5)
    for mine, theirs in zip(
        codes_of(whole).tensors().values(), codes_of(parts).tensors().values(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert other["relative_error"] == pytest.approx(record["relative_error"], rel=1e-12)


def test_an_empty_table_of_zeros_decodes_to_zeros():
    packed, record = quantize_table(np.zeros((3, 9), F32), 8)
    np.testing.assert_array_equal(packed.to_dense(), 0.0)
    assert record["relative_error"] == 0.0


def test_rows_that_are_no_whole_blocks_are_refused():
    with pytest.raises(SpecError, match=r"rows of 48 numbers .* q8_0 .* leave --for away"):
        quantize_table(np.ones((4, 48), F32), 8, "q8_0")
