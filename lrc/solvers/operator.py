"""A decomposition as a SciPy linear operator."""

from __future__ import annotations

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from lrc.parts.matrix import PackedMatrix, unpack_signs
from lrc_kernels.rotate import hadamard_transform


def packed_operator(matrix: PackedMatrix) -> scipy.sparse.linalg.LinearOperator:
    """Products with Q + L R in the original basis, forwards and transposed, float32.

    Q is decoded once, L R is never formed. Each product costs 2 m n + 2 r (m + n).
    """
    m, n = matrix.shape
    Q = matrix.quantized()
    L, R = matrix.low_rank()
    signs_in = unpack_signs(matrix.signs_in, n)
    signs_out = unpack_signs(matrix.signs_out, m)

    def turn(x: NDArray[np.float32], signs: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return x if signs is None else hadamard_transform((x * signs).astype(np.float32))

    def back(y: NDArray[np.float32], signs: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return y if signs is None else hadamard_transform(y, transpose=True) * signs

    def matmat(X: NDArray[np.floating]) -> NDArray[np.float32]:
        x = turn(np.ascontiguousarray(X.T, np.float32), signs_in)
        return np.asarray(
            back((x @ Q.T + (x @ R.T) @ L.T).astype(np.float32, copy=False), signs_out).T
        )

    def rmatmat(Y: NDArray[np.floating]) -> NDArray[np.float32]:
        y = turn(np.ascontiguousarray(Y.T, np.float32), signs_out)
        return np.asarray(back((y @ Q + (y @ L) @ R).astype(np.float32, copy=False), signs_in).T)

    return scipy.sparse.linalg.LinearOperator(
        (m, n),
        matvec=lambda x: matmat(np.reshape(x, (n, 1)))[:, 0],
        rmatvec=lambda y: rmatmat(np.reshape(y, (m, 1)))[:, 0],
        matmat=matmat,
        rmatmat=rmatmat,
        dtype=np.float32,
    )
