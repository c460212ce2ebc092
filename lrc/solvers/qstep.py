"""The Q half step: scale, round with feedback, polish."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.diagonal_plus_low_rank import Moment, diagonal_of
from lrc.linalg.norms import proxy_loss, times_metric
from lrc.linalg.running_product import Feedback
from lrc.quant.blockwise import (
    column_weights,
    feedback_size,
    has_own_scales,
    ldlq_in_blocks,
    polish_in_blocks,
)
from lrc.quant.cuda import ring_code
from lrc.quant.ldlq import Grid, Rounded, ldlq, polish, round_to_nearest
from lrc.quant.scales import as_stored, group_scales, matrix_scale, spread
from lrc.quant.two_sided import polish_by_rows, round_by_rows, two_sided_loss
from lrc.solvers.base import Problem
from lrc.spec import DecomposeSpec

#: Dither of each polish round in scales: 0.2 reaches neighbours of the nearest codeword.
_DITHERS = (0.0, 0.0, 0.2, 0.2, 0.15, 0.1)
#: Rounds where many rows are coded together: no dither reaches better neighbours of a best path.
_TOGETHER_ROUNDS = 1
#: Rounds of polish where blocks have scales of their own: later ones still gain.
_BLOCK_ROUNDS = 2
#: Rounds after which the scales still move enough to be fitted again.
_REFITS = 3


def has_row_scales(spec: DecomposeSpec) -> bool:
    """Whether rows have scales of their own.

    Rotated rows all look alike: one scale a matrix does, unless the codebook has groups.
    """
    return spec.quant.group_size > 0 or spec.rotation == "none"


def stored_scale(problem: Problem, A: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decode-side scales of A, shape (1|m, groups), in float16 values."""
    quantizer = problem.quantizer
    if has_own_scales(quantizer):
        return np.ones((1, 1), np.float32)
    if has_row_scales(problem.spec):
        return group_scales(A, quantizer, problem.spec.quant.group_size)
    return matrix_scale(A, quantizer)


def grid(problem: Problem, scale: NDArray[np.float32]) -> Grid:
    """The rounding grid of the problem with these stored scales."""
    wide = spread(scale, problem.spec.quant.group_size, problem.target.shape[1])
    return Grid(problem.quantizer, wide)


def left_to_the_cpu(problem: Problem) -> tuple[str, ...]:
    """The note of a matrix whose codes are not found on the device that was asked for."""
    spec, quantizer = problem.spec, problem.quantizer
    if spec.device == "cpu" or spec.recipe == "low-rank":
        return ()
    where = f"codes found on the CPU: device {spec.device} knows"
    if spec.recipe == "round-to-nearest" or spec.rounding == "nearest":
        return (f"{where} rounding with feedback alone",)
    if not isinstance(problem.metric.H, np.ndarray):
        return (f"{where} second moments of more tokens than these few alone",)
    if ring_code(quantizer, problem.metric.H) is None:
        block = f"{quantizer.block_rows} x {quantizer.block_size}"
        return (f"{where} rings in blocks of 256 x 1, not {quantizer.id} in {block}",)
    return ()


def nearest(problem: Problem) -> tuple[Rounded, NDArray[np.float32]]:
    """Round each weight on its own: no feedback, no gain."""
    scale = stored_scale(problem, problem.target)
    return round_to_nearest(problem.target, grid(problem, scale)), scale


def feedback_rounding(
    problem: Problem,
    A: NDArray[np.float32],
    H: Moment,
    feedback: Feedback,
    *,
    rounds: int | None = None,
) -> tuple[Rounded, NDArray[np.float32]]:
    """LDLQ of A with ``feedback``, then polish under the undamped H; codes and final scales.

    ``rounds`` bounds the rounds of polish: Q that will be rounded again needs only a first one.
    Larger and smaller scales were tried on samples of rows: they gained nothing over the rule.
    """
    scale = stored_scale(problem, A)
    rounded = _with_feedback(problem, A, H, feedback, scale)
    return polished(problem, A, H, rounded, scale, rounds=rounds)


def _with_feedback(
    problem: Problem,
    A: NDArray[np.float32],
    H: Moment,
    feedback: Feedback,
    scale: NDArray[np.float32],
) -> Rounded:
    """LDLQ of A, from rows to rows too where the outputs have a metric."""
    blocks = has_own_scales(problem.quantizer)
    columns = column_weights(diagonal_of(H), feedback) if blocks else None
    threads = problem.threads

    def round_rows(_: slice, weights: NDArray[np.float32], own: Grid) -> Rounded:
        if columns is not None:
            return ldlq_in_blocks(weights, feedback, own.quantizer, columns, threads=threads)
        return ldlq(weights, feedback, own, threads=threads, device=problem.spec.device)

    whole = grid(problem, scale)
    if problem.outputs is None:
        return round_rows(slice(None), A, whole)
    return round_by_rows(A, problem.outputs, whole, round_rows)


def polished(
    problem: Problem,
    A: NDArray[np.float32],
    H: Moment,
    rounded: Rounded,
    scale: NDArray[np.float32],
    *,
    rounds: int | None = None,
) -> tuple[Rounded, NDArray[np.float32]]:
    """Polish alternately with the closed-form gain of all scales together; no step raises the loss.

    Each round is ``spec.polish_sweeps`` sweeps: first plain, then dithered less and less. Codes of
    many rows together get one plain round.
    """
    if has_own_scales(problem.quantizer):
        return _polished_blocks(problem, A, H, rounded, scale, rounds), scale
    together = problem.quantizer.block_rows
    sweeps = problem.spec.sweeps_of(together)
    dithers = _DITHERS if together == 1 else _DITHERS[:_TOGETHER_ROUNDS]
    for index, dither in enumerate(dithers[:rounds] if sweeps else ()):
        rounded = _polished_once(problem, A, H, rounded, scale, sweeps, dither, index)
        if problem.spec.refit_scales and index < _REFITS:
            rounded, scale = _refit_scale(problem, A, H, rounded, scale)
    return rounded, scale


def _polished_blocks(
    problem: Problem,
    A: NDArray[np.float32],
    H: Moment,
    rounded: Rounded,
    scale: NDArray[np.float32],
    rounds: int | None,
) -> Rounded:
    """Polish of codes whose scales lie in their blocks, and stay."""
    sweeps = problem.spec.sweeps_of(1)
    if rounds is None:
        sweeps *= _BLOCK_ROUNDS
    quantizer, threads = problem.quantizer, problem.threads

    def polish_rows(_: slice, weights: NDArray[np.float32], before: Rounded, own: Grid) -> Rounded:
        return polish_in_blocks(weights, before, H, own.quantizer, sweeps, threads=threads)

    if problem.outputs is None:
        return polish_in_blocks(A, rounded, H, quantizer, sweeps, threads=threads)
    whole = grid(problem, scale)
    return polish_by_rows(A, rounded, problem.outputs, H, whole, polish_rows, threads)


def feedback_block(problem: Problem) -> int:
    """Columns that errors of the problem's Q are fed back by together."""
    return feedback_size(problem.quantizer)


def _polished_once(
    problem: Problem,
    A: NDArray[np.float32],
    H: Moment,
    rounded: Rounded,
    scale: NDArray[np.float32],
    sweeps: int,
    dither: float,
    index: int,
) -> Rounded:
    """One round of polish."""
    seed, threads = problem.spec.seed + index, problem.threads

    def polish_rows(
        rows: slice, weights: NDArray[np.float32], before: Rounded, own: Grid
    ) -> Rounded:
        return polish(
            weights,
            before,
            H,
            own,
            sweeps,
            dither=dither,
            seed=seed + (rows.start or 0),
            threads=threads,
            device=problem.spec.device,
        )

    whole = grid(problem, scale)
    if problem.outputs is None:
        return polish_rows(slice(None), A, rounded, whole)
    return polish_by_rows(A, rounded, problem.outputs, H, whole, polish_rows, threads)


def _refit_scale(
    problem: Problem,
    A: NDArray[np.float32],
    H: Moment,
    rounded: Rounded,
    scale: NDArray[np.float32],
) -> tuple[Rounded, NDArray[np.float32]]:
    """Multiply all scales by <A H, Q> / <Q H, Q>, if that still helps after float16 storage.

    Rows are weighed by the metric of the outputs, where there is one.
    """
    QH = _times_metrics(problem, rounded.values, H)
    energy = float(np.einsum("ij,ij->", QH, rounded.values, dtype=np.float64))
    if energy <= 0:
        return rounded, scale
    cross = float(np.einsum("ij,ij->", QH, A, dtype=np.float64))
    fresh = as_stored(scale * (cross / energy))
    if len(scale) == 1 and scale.shape[1] == 1:
        # One ratio for all: the change of the loss is a parabola in it.
        ratio = float(fresh[0, 0]) / float(scale[0, 0])
        if (ratio**2 - 1) * energy < 2 * (ratio - 1) * cross:
            return Rounded(rounded.codes, rounded.values * np.float32(ratio)), fresh
        return rounded, scale
    ratios = np.divide(fresh, scale, out=np.ones_like(scale), where=scale > 0)
    wide = spread(ratios, problem.spec.quant.group_size, A.shape[1])
    moved = Rounded(rounded.codes, rounded.values * wide)
    if _loss(problem, A - moved.values, H) < _loss(problem, A - rounded.values, H):
        return moved, fresh
    return rounded, scale


def _times_metrics(problem: Problem, E: NDArray[np.float32], H: Moment) -> NDArray[np.floating]:
    """E H, or with a metric of the outputs that times E H."""
    product = times_metric(E, H, problem.threads, problem.spec.device)
    return product if problem.outputs is None else problem.outputs.moment @ product


def _loss(problem: Problem, E: NDArray[np.float32], H: Moment) -> float:
    if problem.outputs is None:
        return proxy_loss(E, H)
    return two_sided_loss(E, problem.outputs.moment, H)
