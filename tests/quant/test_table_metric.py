"""Tables with rotated inputs: rows decode alone, and the head's metric pays."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st

import lrc.quant.table as table_module
from lrc.allocation.sizes import table_specs
from lrc.linalg.norms import proxy_loss
from lrc.nn.packed import PackedEmbedding
from lrc.parts.layout import stored_bytes
from lrc.parts.packed import matrix_tensors
from lrc.quant.table import TableMetric, quantize_table
from lrc.solvers.site import site_metric
from lrc.testing.strategies import weights
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

F32 = np.float32
SEED = 31


def metric_of(n: int, damping: float = 0.01) -> tuple[TableMetric, np.ndarray]:
    """The metric of inputs whose channels depend on each other, and its H in the given basis."""
    rng = np.random.default_rng(n)
    X = rng.standard_normal((4 * n, n)) @ (rng.standard_normal((n, n)) * 0.8 ** np.arange(n))
    H = X.T @ X / len(X)
    found = site_metric(H.copy(), rotation="hadamard", damping=damping, block_size=1, seed=SEED)
    return TableMetric(found.H, found.feedback, found.damping), H


@few(2)
@given(data=st.data(), bits=st.integers(4, 8))
def test_rotated_rows_decode_alone_and_the_errors_are_measured(data, bits):
    m, n = data.draw(st.integers(1, 10)), data.draw(st.integers(1, 100))
    table = data.draw(weights(m, n))
    packed, record = quantize_table(table, bits, rotation="hadamard", seed=SEED)
    assert packed.rotation == "inputs"
    dense = packed.to_dense()
    rows = PackedEmbedding(packed).rows(np.arange(m)[::-1])
    assert_within(
        np.abs(rows - dense[::-1]).max(), factor_bound(n, F32) * np.abs(dense).max(), "rows"
    )
    error = relative_difference(dense, table)
    assert_within(abs(error - record["weight_error"]), factor_bound(n, F32), "reported error")


@pytest.mark.parametrize("bits", [4, 5])
def test_feedback_lowers_the_error_of_the_heads_products(bits):
    metric, H = metric_of(48)
    table = np.random.default_rng(6210).standard_normal((300, 48)).astype(F32)

    def loss(**how) -> tuple[float, float]:
        packed, record = quantize_table(table, bits, rotation="hadamard", seed=SEED, **how)
        own = proxy_loss((table - packed.to_dense()).astype(np.float64), H)
        return own / proxy_loss(table.astype(np.float64), H), record["relative_error"] ** 2

    (nearest, _), (calibrated, reported) = loss(), loss(metric=metric)
    assert calibrated < 0.5 * nearest
    assert reported == pytest.approx(calibrated, rel=1e-3)


def test_neither_chunks_nor_threads_matter(monkeypatch):
    metric, _ = metric_of(24)
    table = np.random.default_rng(6211).standard_normal((600, 24)).astype(F32)
    how = {"rotation": "hadamard", "seed": SEED, "metric": metric}
    whole, _ = quantize_table(table, 4, **how)
    monkeypatch.setattr(table_module, "_CHUNK_ROWS", 256)
    parts, _ = quantize_table(table, 4, **how, threads=3)
    mine, theirs = matrix_tensors("t", whole), matrix_tensors("t", parts)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name])


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_sizes_are_known_before(rotation):
    table = np.random.default_rng(6212).standard_normal((9, 130)).astype(F32)
    packed, _ = quantize_table(table, 5, rotation=rotation, seed=SEED)
    specs = table_specs("t", table.shape, 5, rotation)
    tensors = matrix_tensors("t", packed)
    assert {name: spec.shape for name, spec in specs.items()} == {
        name: array.shape for name, array in tensors.items()
    }
    assert 8 * stored_bytes(specs) == packed.stored_bits
