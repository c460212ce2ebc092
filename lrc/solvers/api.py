"""One matrix and one second moment in, one packed decomposition out."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrc.base.threads import resolve_threads, single_threaded_blas
from lrc.codebooks import get_codebook
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank
from lrc.linalg.given import real_matrix, real_vector, second_moment
from lrc.linalg.incoherence import pack_signs, random_signs, rotate_columns, rotate_moment
from lrc.linalg.norms import proxy_loss, relative_norm, rms
from lrc.parts.codes import Codes
from lrc.parts.matrix import PackedMatrix
from lrc.quant import get_quantizer
from lrc.quant.blockwise import feedback_size
from lrc.quant.cuda import require_device
from lrc.quant.two_sided import output_metric
from lrc.solvers.base import Basis, Decomposition, Problem, Solution
from lrc.solvers.caldera import caldera
from lrc.solvers.corrected import corrected
from lrc.solvers.few_tokens import Metric, few_tokens_metric
from lrc.solvers.notes import metric_notes, shape_notes
from lrc.solvers.plain import ldlq_only, low_rank_only, round_to_nearest
from lrc.solvers.qstep import left_to_the_cpu
from lrc.solvers.site import site_metric
from lrc.solvers.statistic import weighting_diagonal
from lrc.solvers.theory import caldera_bound
from lrc.spec import DecomposeSpec, QuantSpec

DECOMPOSERS: dict[str, Callable[[Problem], Solution]] = {
    "caldera": caldera,
    "ldlq": ldlq_only,
    "round-to-nearest": round_to_nearest,
    "low-rank": low_rank_only,
    "corrected": corrected,
}


def decompose(
    W: ArrayLike,
    H: ArrayLike | None = None,
    spec: DecomposeSpec | None = None,
    *,
    magnitudes: ArrayLike | None = None,
    importances: ArrayLike | None = None,
    outputs: ArrayLike | None = None,
    threads: int | None = None,
) -> Decomposition:
    """Decompose one matrix: minimise tr((W - Q - L R) H (W - Q - L R)^T).

    Parameters
    ----------
    W : real array, shape (m, n)
        Rows are outputs; taken as float32. Not modified.
    H : real array, shape (n, n), optional
        Second moment E[z z^T] of the inputs, symmetric positive semidefinite up to rounding of
        float32; the identity if not given. Not modified.
    spec : DecomposeSpec, optional
        Recipe, codebook, rank, rotation, damping, seed.
    magnitudes : real array, shape (n,), optional
        E|z| of each input, for the statistics that weigh by it.
    importances : real array, shape (n,), optional
        Sum over each column of W of the squared gradients of a loss, for the statistics "fisher".
        What those of its rows are, "fisher-two-sided" is told by ``outputs``.
    outputs : real array, shape (m, m), optional
        A, symmetric positive definite, such as the second moment of a loss's gradients at the
        outputs: then tr(A E H E^T) of the error E is minimised. Reported errors are those of H.
    threads : int, optional
        Never changes the result.

    Returns
    -------
    Decomposition

    Raises
    ------
    SpecError
        If W or H is no matrix of real numbers, or the shapes disagree.
    NumericalError
        If W or H is not finite, or H is asymmetric, indefinite or cannot be factored.

    Examples
    --------
    >>> import numpy as np, lrc
    >>> W = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)
    >>> d = lrc.decompose(W)
    >>> 2.0 < d.bits_per_weight < 2.1 and d.relative_error < 0.4
    True
    """
    spec = spec or DecomposeSpec()
    require_device(spec.device)
    weight = real_matrix(W, "W", np.float32)
    m, n = weight.shape
    with single_threaded_blas():
        moment = np.eye(n) if H is None else second_moment(H, n)
        known = None if magnitudes is None else real_vector(magnitudes, "magnitudes", n)
        columns = None if importances is None else real_vector(importances, "importances", n)
        diagonal = weighting_diagonal(spec.statistic, np.diag(moment).copy(), known, columns)
        block_size = least_block((spec.quant,), ((m, n),))
        metric = metric_for(moment, None, spec, site="matrix", block_size=block_size)
        metric = metric.weighing(diagonal)
        rows = None if outputs is None else second_moment(outputs, m, "outputs")
        return decompose_at_site(weight, metric, spec, name="matrix", outputs=rows, threads=threads)


def metric_for(
    work: NDArray[np.floating] | DiagonalPlusLowRank,
    work_cross: NDArray[Any] | None,
    spec: DecomposeSpec,
    *,
    site: str,
    block_size: int,
    shrinkage: float = 0.0,
    outputs: int = 0,
) -> Metric:
    """The shared metric of a site, with signs drawn from the seed and the site's name.

    ``work`` is H and ``work_cross`` E[x z^T], arrays that are overwritten; or rows of few
    tokens, and the original's rows (k, n). ``shrinkage`` is for moments that are estimated; a given
    H is taken as it is. ``outputs`` are the rows of all its matrices, where they are known.
    """
    options = _Options(
        rotation=spec.rotation,
        damping=spec.damping,
        block_size=block_size,
        seed=derive_seed(spec.seed, site, "in"),
        shrinkage=shrinkage,
    )
    if isinstance(work, DiagonalPlusLowRank):
        return few_tokens_metric(work, work_cross, **options)
    return site_metric(work, work_cross, **options, outputs=outputs, device=spec.device)


class _Options(TypedDict):
    rotation: str
    damping: float
    block_size: int
    seed: int
    shrinkage: float


def least_block(quants: Iterable[QuantSpec], shapes: Iterable[tuple[int, ...]]) -> int:
    """Columns that all of a site's quantizers can be fed back by: the least block size."""
    return min(
        feedback_size(get_quantizer(quant.for_shape(m, n)[0], m))
        for quant, (m, n) in zip(quants, shapes, strict=True)
    )


def decompose_at_site(
    W: NDArray[np.float32],
    metric: Metric,
    spec: DecomposeSpec,
    *,
    name: str,
    regression_target: NDArray[np.float32] | None = None,
    outputs: NDArray[np.floating] | None = None,
    basis: Basis | None = None,
    threads: int | None = None,
) -> Decomposition:
    """Decompose W (m, n), which is finite, under a metric that other matrices share.

    ``regression_target`` is what to fit instead of W, from :func:`target_columns`. ``name`` fixes
    the output signs together with the seed. ``outputs`` (m, m), positive definite, is what errors
    of outputs are weighed by where codes are chosen; the identity where it is None. ``basis`` is
    the R of L R alone where others have it, too; nothing is rotated then.
    """
    quant, notes = spec.quant.for_shape(*W.shape)
    spec = dataclasses.replace(spec, quant=quant)
    signs_out = None
    columns = rotate_columns(W, metric.signs).astype(np.float32, copy=False)
    if metric.signs is not None:
        signs_out = random_signs(len(W), derive_seed(spec.seed, name, "out"))
    original = _rotate_rows(columns, signs_out)
    del columns  # each of these is as large as the matrix
    target = original if regression_target is None else _rotate_rows(regression_target, signs_out)
    absolute = get_codebook(quant.codebook, quant.bits).absolute
    gain = 1.0 if absolute else float(np.float32(rms(target)))
    divisor = gain if gain > 0 else 1.0
    problem = Problem(target / np.float32(divisor), metric, spec, resolve_threads(threads))
    own = None if regression_target is None else original
    del target, original
    if outputs is not None:
        rotated = rotate_moment(np.asarray(outputs, np.float64), signs_out)
        rows = output_metric(rotated, problem.quantizer.block_rows)
        problem = dataclasses.replace(problem, outputs=rows)
    if basis is not None:
        problem = dataclasses.replace(
            problem, basis=Basis(basis.R, "" if basis.holder == name else basis.holder)
        )
    solution = DECOMPOSERS[spec.recipe](problem)
    if not any(isinstance(part, Codes) for part in solution.parts):
        notes = ()  # of a codebook that nothing is coded by
    notes = (*notes, *left_to_the_cpu(problem))
    solution = dataclasses.replace(solution, notes=(*notes, *solution.notes))
    packed = PackedMatrix(
        shape=(W.shape[0], W.shape[1]),
        gain=gain,
        rotation=spec.rotation,
        signs_in=pack_signs(metric.signs) if metric.signs is not None else None,
        signs_out=pack_signs(signs_out) if signs_out is not None else None,
        parts=solution.parts,
    )
    weights = None if own is None else own / np.float32(divisor)
    return _measured(packed, solution, problem, weights, divisor)


def target_columns(
    W: NDArray[np.float32], metric: Metric, mix: float, threads: int = 1
) -> NDArray[np.float32] | None:
    """The regression target of W with its columns rotated, or None: W itself is fitted."""
    if not metric.has_target or mix == 0.0:
        return None
    columns = rotate_columns(W, metric.signs).astype(np.float32, copy=False)
    return metric.target(columns, mix, threads)


def corrected_columns(
    W: NDArray[np.float32],
    regression_target: NDArray[np.float32] | None,
    metric: Metric,
    residual_gap: NDArray[Any],
    repair: float,
    threads: int = 1,
) -> NDArray[np.float32]:
    """What to fit, plus the share ``repair`` of what the residual stream lacks.

    ``regression_target`` is of :func:`target_columns`, ``residual_gap`` E[d z^T], (m, n), of the
    streams' difference d.
    """
    correction = metric.correction(residual_gap, threads)
    correction *= np.float32(repair)
    if regression_target is None:
        regression_target = rotate_columns(W, metric.signs).astype(np.float32, copy=False)
    correction += regression_target
    return correction


def derive_seed(seed: int, *names: str) -> int:
    """A seed for one named use; the same on every platform."""
    return zlib.crc32("/".join((str(seed), *names)).encode())


def _rotate_rows(W: NDArray[np.float32], signs: NDArray[np.float32] | None) -> NDArray[np.float32]:
    rotated = rotate_columns(np.ascontiguousarray(W.T), signs)
    return np.ascontiguousarray(rotated.T, dtype=np.float32)


def _measured(
    packed: PackedMatrix,
    solution: Solution,
    problem: Problem,
    weights: NDArray[np.float32] | None,
    divisor: float,
) -> Decomposition:
    """Errors from what was packed, not from what the solver believed; outputs count alike.

    ``weights`` are the original ones where something else was fitted.
    """
    problem = dataclasses.replace(problem, outputs=None)
    decoded = packed.rows(slice(0, packed.shape[0]))
    decoded /= np.float32(divisor)
    relative_error = weight_error = problem.error(problem.target - decoded, problem.energy)
    if weights is not None:
        energy = proxy_loss(weights, problem.metric.H, problem.threads, problem.spec.device)
        weight_error = problem.error(weights - decoded, energy)
    else:
        weights = problem.target
    return Decomposition(
        matrix=packed,
        relative_error=relative_error,
        weight_error=weight_error,
        trace=solution.trace,
        damping=problem.metric.damping,
        notes=(*shape_notes(packed), *metric_notes(problem.metric), *solution.notes),
        frobenius_error=relative_norm(weights - decoded, weights),
        caldera_bound=caldera_bound(packed, problem),
    )
