"""A decomposition as a SciPy linear operator."""

from __future__ import annotations

from functools import reduce

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from lrc.parts.base import added
from lrc.parts.matrix import PackedMatrix
from lrc.parts.signs import unpack_signs
from lrc_kernels.rotate import hadamard_transform


def packed_operator(matrix: PackedMatrix) -> scipy.sparse.linalg.LinearOperator:
    """Products with the sum of the parts in the original basis, forwards and transposed, float32.

    Each part is decoded once; L R is never formed. With codes and factors of rank r a product
    costs 2 m n + 2 r (m + n).
    """
    m, n = matrix.shape
    terms = [term.factored() for term in matrix.terms]
    signs_in = unpack_signs(matrix.signs_in, n)
    signs_out = unpack_signs(matrix.signs_out, m)

    def rotated(x: NDArray[np.float32], signs: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return x if signs is None else hadamard_transform((x * signs).astype(np.float32))

    def back(y: NDArray[np.float32], signs: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return y if signs is None else hadamard_transform(y, transpose=True) * signs

    def forward(x: NDArray[np.float32]) -> NDArray[np.float32]:
        products = (reduce(lambda y, A: y @ A.T, reversed(factors), x) for factors in terms)
        return added(products, (len(x), m))

    def backward(y: NDArray[np.float32]) -> NDArray[np.float32]:
        return added((reduce(np.matmul, factors, y) for factors in terms), (len(y), n))

    def matmat(X: NDArray[np.floating]) -> NDArray[np.float32]:
        x = rotated(np.ascontiguousarray(X.T, np.float32), signs_in)
        return np.asarray(back(forward(x), signs_out).T)

    def rmatmat(Y: NDArray[np.floating]) -> NDArray[np.float32]:
        y = rotated(np.ascontiguousarray(Y.T, np.float32), signs_out)
        return np.asarray(back(backward(y), signs_in).T)

    return scipy.sparse.linalg.LinearOperator(
        (m, n),
        matvec=lambda x: matmat(np.reshape(x, (n, 1)))[:, 0],
        rmatvec=lambda y: rmatmat(np.reshape(y, (m, 1)))[:, 0],
        matmat=matmat,
        rmatmat=rmatmat,
        dtype=np.float32,
    )
