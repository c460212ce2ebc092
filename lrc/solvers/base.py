"""The question and the answer of every decomposer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from lrc.linalg.diagonal_plus_low_rank import Moment
from lrc.linalg.norms import squared_norm
from lrc.parts.base import Part
from lrc.parts.codes import Codes
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.quant import get_quantizer
from lrc.quant.base import Quantizer
from lrc.quant.ldlq import Rounded
from lrc.quant.two_sided import OutputMetric
from lrc.solvers.few_tokens import Metric
from lrc.spec import DecomposeSpec


@dataclass(frozen=True)
class Trace:
    """Relative proxy error of Q alone and after each solve for L, R, in the order run."""

    steps: tuple[str, ...] = ()
    errors: tuple[float, ...] = ()

    def then(self, step: str, error: float) -> Trace:
        """The trace with one more step."""
        return Trace((*self.steps, step), (*self.errors, error))


@dataclass(frozen=True)
class Basis:
    """R (r, n) that matrices share; ``holder`` is the name of the one that stores it."""

    R: NDArray[np.float32]
    holder: str


@dataclass(frozen=True)
class Problem:
    """min tr((T - Q - L R) H (T - Q - L R)^T) in the rotated basis.

    ``target`` is T, float32 (m, n), of unit RMS; ``metric`` holds H and its factors. The loss is
    tr(A E H E^T) where ``outputs`` is a metric A of the rotated outputs. ``basis`` is the R that
    L R is to have, without its holder where this matrix is that.
    """

    target: NDArray[np.float32]
    metric: Metric
    spec: DecomposeSpec
    threads: int = 1
    outputs: OutputMetric | None = None
    basis: Basis | None = None

    @property
    def quantizer(self) -> Quantizer:
        """The codebook of Q, in the tiles that its rows allow."""
        return get_quantizer(self.spec.quant, len(self.target))

    @property
    def weighting(self) -> Moment:
        """What errors of L R are weighed by where the spec does not say H itself, (n, n)."""
        own = self.metric.weighting
        return self.metric.H if own is None else own

    @cached_property
    def energy(self) -> float:
        """The loss of T itself, tr(T H T^T)."""
        target = self.weighed(self.target)
        return squared_norm(target, self.metric.H, self.threads, self.spec.device)

    def weighed(self, E: NDArray[np.float32]) -> NDArray[np.float32]:
        """C^T E with A = C C^T, whose loss without A is that of E; E where outputs count alike."""
        return E if self.outputs is None else self.outputs.root.T @ E

    def error(self, residual: NDArray[np.float32], energy: float) -> float:
        """The root of the loss of E = ``residual`` over ``energy``; 0 for a zero target."""
        if energy <= 0:
            return 0.0
        loss = squared_norm(self.weighed(residual), self.metric.H, self.threads, self.spec.device)
        return float(np.sqrt(loss / energy))

    def codes(self, rounded: Rounded, scale: NDArray[np.float32]) -> Codes:
        """Q as it is stored, from its codes and decode-side scales."""
        quant, (m, n) = self.spec.quant, self.target.shape
        return Codes(
            size=(m, n),
            codebook=quant.codebook,
            bits=quant.bits,
            group_size=quant.group_size,
            planes=self.quantizer.pack(rounded.codes),
            scales=scale.astype(np.float16),
        )


@dataclass(frozen=True)
class Solution:
    """What a solver hands back: parts whose sum is near the target, its trace."""

    parts: tuple[Part, ...]
    trace: Trace
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decomposition:
    """W ~ Q + L R, or a sum of other parts, in packed form.

    ``relative_error`` is sqrt(tr(E H E^T) / tr(W H W^T)) with E = W - Q - L R for the matrix
    that was fitted, and ``weight_error`` the same against the original W where a regression
    target was fitted instead; both come from the decoded codes and the undamped H, as does
    ``frobenius_error``, ||W - Q - L R||_F / ||W||_F of the original W. ``caldera_bound`` is what
    theory says of ``relative_error`` (:mod:`lrc.solvers.theory`); None where it is silent.
    ``notes`` says what a reader should know: damping raised, padding, rank chosen, rotation in
    blocks.
    """

    matrix: PackedMatrix
    relative_error: float
    weight_error: float
    trace: Trace
    damping: float
    notes: tuple[str, ...] = ()
    frobenius_error: float = 0.0
    caldera_bound: float | None = None

    @property
    def rank(self) -> int:
        """Rank of L R."""
        return sum(part.rank for part in self.matrix.parts if isinstance(part, LowRank))

    @property
    def bits_per_weight(self) -> float:
        """All stored bits over m n."""
        return self.matrix.bits_per_weight

    def to_dense(self) -> NDArray[np.float32]:
        """The sum of the parts in the original basis, float32 (m, n)."""
        return self.matrix.to_dense()

    def linear_operator(self) -> scipy.sparse.linalg.LinearOperator:
        """View for SciPy's iterative methods; L R is never formed."""
        from lrc.solvers.operator import packed_operator

        return packed_operator(self.matrix)
