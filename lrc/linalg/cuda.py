"""Large products and factorisations on a CUDA device, by CuPy; arrays of the host in and out.

What goes there and back is O(n^2) where the work is O(n^3) or many passes over the matrix. float32
products are float32 there, too (no TF32); sums are rounded in cuBLAS's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.factor import absorbed, raising_the_diagonal
from lrc.linalg.token_rows import ChunkMoment, TokenRows
from lrc_kernels.gpu.device import cupy

_Real = TypeVar("_Real", np.float32, np.float64)
#: Combinations of rows below this part of the largest energy are left out of a downdate.
_FLOOR = 1e-8


def proxy_loss(E: NDArray[np.floating], H: NDArray[np.floating]) -> float:
    """:func:`lrc.linalg.norms.proxy_loss` of a dense H."""
    given = cupy().asarray(E)
    product = given @ cupy().asarray(H).astype(E.dtype, copy=False)
    product *= given
    return float(product.sum(dtype=np.float64))


def times_metric(A: NDArray[_Real], H: NDArray[np.floating]) -> NDArray[_Real]:
    """:func:`lrc.linalg.norms.times_metric` of a dense H."""
    product = cupy().asarray(A) @ cupy().asarray(H).astype(A.dtype, copy=False)
    found: NDArray[_Real] = product.get()
    return found


def cholesky(H: NDArray[np.floating]) -> NDArray[np.floating]:
    """Lower Cholesky factor, in the dtype of H.

    Raises
    ------
    numpy.linalg.LinAlgError
        H is not positive definite.
    """
    lower: NDArray[np.floating] = _cholesky(cupy().asarray(H)).get()
    return lower


def _cholesky(H: Any) -> Any:
    import cupyx

    with cupyx.errstate(linalg="raise"):
        return cupy().linalg.cholesky(H)


def downdated(H: NDArray[np.float32], R: NDArray[np.floating]) -> NDArray[np.float32]:
    """:func:`lrc.linalg.factor.schur_complement`, in float64 there."""
    found: NDArray[np.float32] = _downdated(H, R, 0.0).astype(np.float32).get()
    return found


def _downdated(
    H: NDArray[np.float32], R: NDArray[np.floating], shift: NDArray[np.float64] | float
) -> Any:
    """The complement of H + diag(shift), float64, on the device."""
    xp = cupy()
    work = xp.asarray(H).astype(np.float64)
    _add_to_diagonal(work, shift)
    R64 = np.asarray(R, np.float64)
    half = xp.asarray(absorbed((xp.asarray(R64) @ work).get(), R64, _FLOOR))
    work -= half.T @ half
    work += work.T.copy()
    work *= 0.5
    return work


def downdated_cholesky(
    H: NDArray[np.float32],
    R: NDArray[np.floating],
    shift: NDArray[np.float64],
    damping: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Lower Cholesky factor of the Schur complement of H + diag(shift), for R, once it is damped.

    ``damping`` makes what is added to the diagonal (n,) of that.

    Raises
    ------
    NumericalError
        As :func:`lrc.linalg.factor.factor` does.
    """
    lowered = _downdated(H, R, shift)
    _add_to_diagonal(lowered, damping(lowered.diagonal().get()))

    def make(added: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = lowered
        if added.any():
            matrix = lowered.copy()
            _add_to_diagonal(matrix, added)
        lower: NDArray[np.float64] = _cholesky(matrix).get()
        return lower

    return raising_the_diagonal(make, lowered.diagonal().get()).made


def _add_to_diagonal(work: Any, added: NDArray[np.float64] | float) -> None:
    indices = cupy().arange(len(work))
    work[indices, indices] += cupy().asarray(added)


Operator = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def times(S: NDArray[np.floating]) -> Operator:
    """V to S V in float64; S (n, n) stays on the device while the function lives."""
    wide = cupy().asarray(S).astype(np.float64, copy=False)
    return lambda V: (wide @ cupy().asarray(V)).get()


def times_output_gram(A: NDArray[np.floating], H: NDArray[np.floating]) -> Operator:
    """V to A H A^T V, in the dtype of A, as above."""
    given = cupy().asarray(A)
    metric = cupy().asarray(H).astype(A.dtype, copy=False)

    def apply(V: NDArray[np.float64]) -> NDArray[np.float64]:
        product = given @ (metric @ (given.T @ cupy().asarray(V.astype(A.dtype))))
        found: NDArray[np.float64] = product.astype(np.float64).get()
        return found

    return apply


def moments(parts: Iterable[TokenRows]) -> ChunkMoment | None:
    """Sum of the moments of chunks of tokens, float64; None of none.

    Products are float32 over a chunk, as on the CPU. What stays on the device is their sums.
    """
    total: _Sums | None = None
    for rows in parts:
        total = total or _Sums()
        total.add(rows)
    return None if total is None else total.fetched()


class _Sums:
    """Running sums of products on the device; the counts are the host's."""

    def __init__(self) -> None:
        self.products: dict[str, Any] = {}
        self.rows = self.dropped = 0
        self.weight = self.spread = 0.0

    def add(self, rows: TokenRows) -> None:
        z = cupy().asarray(rows.z)
        for name, left in (("second", z), ("cross", rows.x), ("residual_gap", rows.difference)):
            if left is None:
                continue
            product = cupy().asarray(left).T @ z
            if name in self.products:
                self.products[name] += product
            else:
                self.products[name] = product.astype(np.float64)
        self.rows += len(rows.z)
        self.dropped += rows.dropped
        self.weight += rows.weight
        self.spread += rows.spread

    def fetched(self) -> ChunkMoment:
        host = {name: product.get() for name, product in self.products.items()}
        return ChunkMoment(
            host["second"], host.get("cross"), host.get("residual_gap"),
            self.rows, self.dropped, self.weight, self.spread,
        )  # fmt: skip
