"""The linear operator is the matrix, forwards and transposed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg
from packed_cases import CODEBOOKS, random_matrix

from lrc.solvers.operator import packed_operator
from lrc.testing.laws import check_adjoint


@pytest.mark.parametrize("rotation", ["none", "inputs", "hadamard"])
@pytest.mark.parametrize("codebook", CODEBOOKS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (5, 13), (24, 16), (12, 56)], ids=str)
def test_operator_is_the_dense_matrix(shape, codebook, rotation):
    matrix = random_matrix(shape, codebook, rotation=rotation, rank=1, seed=7103)
    operator = packed_operator(matrix)
    assert operator.shape == shape
    assert operator.dtype == np.float32
    check_adjoint(operator, matrix.to_dense())


def test_scipys_iterative_methods_take_it():
    matrix = random_matrix((40, 24), rank=3, seed=7105)
    dense = matrix.to_dense().astype(np.float64)
    largest = scipy.sparse.linalg.svds(packed_operator(matrix), k=1, rng=7107)[1][0]
    assert largest == pytest.approx(np.linalg.norm(dense, 2), rel=1e-4)
    y = dense @ np.arange(24.0)
    solved = scipy.sparse.linalg.lsqr(packed_operator(matrix), y, atol=1e-7, btol=1e-7)[0]
    np.testing.assert_allclose(dense @ solved, y, atol=1e-3 * np.abs(y).max())


def test_rank_zero():
    matrix = random_matrix((6, 9), rank=0, seed=7109)
    check_adjoint(packed_operator(matrix), matrix.to_dense())
