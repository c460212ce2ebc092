"""Laws that any factorisation, rounding or decomposition of the right kind obeys.

Each function raises AssertionError with the measured error over its bound when the law is
broken, so that a new codebook or decomposer, in this library or another, inherits its tests.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from lrc.linalg.factor import BlockLDL
from lrc.quant.ldlq import Grid, Rounded
from lrc.solvers.base import Decomposition
from lrc.spec import DecomposeSpec
from lrc.testing.tolerance import (
    assert_within,
    factor_bound,
    relative_difference,
    sum_bound,
)

F32, F64 = np.float32, np.float64


def quadratic_loss(E: NDArray[np.floating], H: NDArray[np.floating]) -> float:
    """tr(E H E^T), all in float64: the oracle of every error that is reported."""
    wide = np.asarray(E, F64)
    return float(np.einsum("ij,ij->", wide @ np.asarray(H, F64), wide))


def loss_rounding(
    E: NDArray[np.floating], W: NDArray[np.floating], H: NDArray[np.floating]
) -> float:
    """How far a float32 evaluation of tr(E H E^T) may lie off when E comes from decoding W.

    E is off by rounding of the size of W, and the products have n terms.
    """
    size, error = np.linalg.norm(W), np.linalg.norm(E)
    magnitude = float(np.linalg.norm(H, 2) * (error + size * np.finfo(F32).eps) * (error + size))
    return sum_bound(max(W.shape), F32, magnitude)


def check_block_ldl(H: NDArray[np.float64], ldl: BlockLDL) -> None:
    """U D U^T = H; U unit block lower triangular; D symmetric positive definite blocks."""
    n, b = len(H), ldl.block_size
    D = dense_diagonal(ldl, n)
    bound = factor_bound(n, F64, solve=b > 1)
    assert_within(relative_difference(ldl.unit @ D @ ldl.unit.T, H), bound, "U D U^T - H")
    for a in range(0, n, b):
        z = min(a + b, n)
        np.testing.assert_array_equal(ldl.unit[a:z, a:z], np.eye(z - a))
        np.testing.assert_array_equal(ldl.unit[a:z, z:], 0.0)
    assert np.linalg.eigvalsh(ldl.diagonal).min() > 0, "a diagonal block is not positive definite"


def dense_diagonal(ldl: BlockLDL, n: int) -> NDArray[np.float64]:
    """D of a block LDL as a dense (n, n) matrix."""
    D = np.zeros((n, n))
    for i, block in enumerate(ldl.diagonal):
        a, z = i * ldl.block_size, min((i + 1) * ldl.block_size, n)
        D[a:z, a:z] = block[: z - a, : z - a]
    return D


def check_error_identity(
    W: NDArray[np.floating], Q: NDArray[np.floating], H: NDArray[np.float64], ldl: BlockLDL
) -> None:
    """tr((W - Q) H (W - Q)^T) = tr(eta D eta^T) with eta = (W - Q) U, whatever Q is."""
    E = np.asarray(W, F64) - Q
    eta = E @ ldl.unit
    through = quadratic_loss(eta, dense_diagonal(ldl, len(H)))
    size = float(np.linalg.norm(E) ** 2 * np.linalg.norm(H, 2))
    bound = factor_bound(len(H), F64, solve=True) * size
    assert_within(abs(through - quadratic_loss(E, H)), bound, "tr(eta D eta^T)")


def check_codes_match(grid: Grid, rounded: Rounded) -> None:
    """The values are exactly scale times what the codes decode to; the codes survive packing."""
    n = rounded.values.shape[1]
    decoded = grid.quantizer.decode(rounded.codes)[:, :n] * grid.scale
    np.testing.assert_array_equal(rounded.values, decoded)
    planes = grid.quantizer.pack(rounded.codes)
    for code, back in zip(rounded.codes, grid.quantizer.unpack(planes, n), strict=True):
        np.testing.assert_array_equal(code, back)


def check_feedback_rounding(
    W: NDArray[np.float32], feedback: NDArray[np.float32], grid: Grid, rounded: Rounded
) -> None:
    """Each block is a codeword nearest to the weights corrected by all later errors.

    The target is recomputed in float64 from the result itself, so no near tie can go another
    way. For quantizers whose encoder finds the nearest codeword.
    """
    E = W.astype(F64) - rounded.values
    b, n = grid.quantizer.block_size, W.shape[1]
    for a in range(0, n, b):
        z = min(a + b, n)
        target = W[:, a:z] + E[:, z:] @ feedback[z:, a:z].astype(F64)
        nearest = grid.round(target.astype(F32), slice(a, z))[1]
        mine = np.linalg.norm(target - rounded.values[:, a:z], axis=1)
        best = np.linalg.norm(target - nearest, axis=1)
        reach = np.abs(W[:, a:z]).sum(axis=1) + np.abs(E[:, z:]) @ np.abs(feedback[z:, a:z]).sum(1)
        slack = factor_bound(max(n - z, 1), F32) * (reach + best)
        worst = int(np.argmax(mine - best - slack))
        assert_within(mine[worst], best[worst] + slack[worst], f"distance of columns {a}:{z}")


def check_decomposition(
    W: NDArray[np.floating],
    H: NDArray[np.floating],
    spec: DecomposeSpec,
    found: Decomposition,
) -> None:
    """What every decomposer owes for a W and H of the original basis, judged from its packed form.

    Finite values of the right shape; the reported error is that of the decoded matrix under
    the undamped H; the trace knows it; rank, bits and operator view agree with what is stored.
    """
    dense = found.to_dense()
    assert dense.shape == W.shape
    assert dense.dtype == F32
    assert np.isfinite(dense).all(), "decoded weights are not finite"
    E = np.asarray(W, F64) - dense
    loss, energy = quadratic_loss(E, H), quadratic_loss(W, H)
    slack = loss_rounding(E, W, H) + found.relative_error**2 * loss_rounding(W, W, H)
    if found.relative_error > 0 or energy > loss_rounding(W, W, H):
        assert_within(abs(found.relative_error**2 * energy - loss), slack, "reported error")
    assert found.weight_error == found.relative_error, "no regression target was asked for"
    _check_trace(found, slack / energy if energy > 0 else 0.0)
    limit = spec.low_rank.rank
    assert found.rank <= (min(W.shape) if limit == "auto" else limit)
    assert found.bits_per_weight == found.matrix.stored_bits / W.size
    assert all(found.notes), "an empty note"
    check_adjoint(found.linear_operator(), dense)


def _check_trace(found: Decomposition, slack: float) -> None:
    """No complete round was better than what was kept, and what was kept was seen."""
    steps, errors = found.trace.steps, found.trace.errors
    assert len(steps) == len(errors) > 0
    assert set(steps) <= {"Q", "LR"}
    complete = [e for i, e in enumerate(errors) if i == 0 or steps[i] == "LR"]
    square = found.relative_error**2
    assert_within(square, min(complete) ** 2 + slack, "kept error against the best round")
    assert_within(min(errors) ** 2, square + slack, "best of the trace against the kept error")


def check_adjoint(
    operator: scipy.sparse.linalg.LinearOperator, dense: NDArray[np.floating], *, seed: int = 613
) -> None:
    """A X and A^T Y agree with the dense matrix, for one vector and for several."""
    m, n = operator.shape
    assert dense.shape == (m, n)
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    size = float(np.linalg.norm(dense))
    bound = sum_bound(m + n, F32, size) * np.sqrt(3.0)
    wide = np.asarray(dense, F64)
    forward, backward = operator.matmat(X), operator.rmatmat(Y)
    assert_within(float(np.linalg.norm(forward - wide @ X)), bound * np.sqrt(n), "A X")
    assert_within(float(np.linalg.norm(backward - wide.T @ Y)), bound * np.sqrt(m), "A^T Y")
    alone = float(np.linalg.norm(operator.matvec(X[:, 0]) - forward[:, 0]))
    assert_within(alone, bound * np.sqrt(n), "A x against a column of A X")
    alone = float(np.linalg.norm(operator.rmatvec(Y[:, 0]) - backward[:, 0]))
    assert_within(alone, bound * np.sqrt(m), "A^T y against a column of A^T Y")
