"""How far a compressed model's matrices are from the original's on text that it was not made from.

Of a matrix W (m, n) with What in its place and inputs x of the original model, the relative proxy
error is sqrt(sum_x |(W - What) x|^2 / sum_x |W x|^2), over the tokens of held-out windows: with
H = sum_x x x^T that is sqrt(tr(E H E^T) / tr(W H W^T)). Where x comes to an expert, its share of
the token is a factor of it. Windows, not tokens, are what is drawn from a text, so the standard
error of the ratio is that of a ratio of sums over windows, by linearization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import ordered_map, single_threaded_blas
from lrc.calibrate.every_block import EveryBlock
from lrc.calibrate.site_rows import site_rows
from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank, Moment
from lrc.linalg.spectral import largest_eigenvalue
from lrc.models.base import Model, Stack
from lrc.nn.linear import Linear
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint
from lrc.run.text import Tokenizer, token_windows
from lrc.solvers.theory import code_spacing, theorem_bound

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: Windows that are looked at, and tokens of each where the model's context allows it.
WINDOWS, WINDOW_TOKENS = 16, 256
#: Characters that hold a token, and more, of nearly any text.
_CHARACTERS_A_TOKEN = 16


@dataclass(frozen=True)
class HeldOutError:
    """A relative proxy error on held-out text; None where no token came to the matrix.

    ``stderr`` is its standard error, None with a single window. ``theory`` is what CALDERA's
    theorem gives for the same matrix and the same tokens (:mod:`lrc.solvers.theory`), None where
    it says nothing.
    """

    relative_error: float | None
    stderr: float | None
    theory: float | None = None


@dataclass(frozen=True)
class Certificate:
    """Errors on held-out text, by matrix, and of all matrices together.

    ``windows`` of ``window_tokens`` each were looked at. ``whole`` sums the squares of numerator
    and denominator over all matrices.
    """

    windows: int
    window_tokens: int
    matrices: dict[str, HeldOutError]
    whole: HeldOutError


def held_out_windows(model: Model, tokenizer: Tokenizer, text: str) -> NDArray[np.integer]:
    """Windows (N, T) from the start of a text.

    Raises
    ------
    CalibrationError
        It is shorter than one window.
    """
    length = min(WINDOW_TOKENS, model.context)
    ids = tokenizer.encode(text[: WINDOWS * length * _CHARACTERS_A_TOKEN])
    return token_windows(ids, length, WINDOWS)


def certify(
    source: PackedCheckpoint,
    original: Model,
    windows: NDArray[np.integer],
    threads: int,
    progress: Progress = SILENT,
) -> Certificate:
    """Relative proxy errors of every stored matrix of the blocks on token windows.

    Parameters
    ----------
    source : PackedCheckpoint
    original : Model
        That it was made from.
    windows : integers (N, T)
    threads : int
        Never changes the result.
    progress : Progress

    Notes
    -----
    One forward pass of the original, 4 m n multiplications and additions a token and matrix, and
    2 n^2 a token and site for the largest eigenvalue. Memory: one block in float32, and the stream.
    """
    chunks = [windows[i : i + 1] for i in range(len(windows))]
    count = sum(name in source.report["matrices"] for name in _names(original))
    with single_threaded_blas(), progress.bar("held-out text", count, "matrix") as advance:
        visitor = _Certifier(source, threads, advance)

        def start(stack: Stack, inputs: Sequence[NDArray[Any]], given: Given) -> Streams:
            return Streams(start_stream(stack, inputs, threads, given.student))

        walk_stacks(original, (chunks,), start, visitor, threads)
    everything = np.sum(list(visitor.sums.values()), axis=0) if visitor.sums else np.zeros((1, 2))
    return Certificate(
        len(windows), windows.shape[1], visitor.found, HeldOutError(*ratio_of(everything))
    )


def _names(model: Model) -> Iterator[str]:
    for stack in model.stacks:
        for index in range(len(stack)):
            yield from stack.linears(index).values()


@dataclass
class _Certifier(EveryBlock):
    """The visitor: every block stays as it is; ``sums`` are [error, whole] by window, (N, 2)."""

    source: PackedCheckpoint
    threads: int
    advance: Callable[..., object]
    found: dict[str, HeldOutError] = field(default_factory=dict)
    sums: dict[str, F64] = field(default_factory=dict)

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Look at the matrices of a site; tensors that are not compressed have no error."""
        inputs = [
            rows.z if rows.weights is None else rows.z * rows.weights[:, None]
            for rows in site_rows(at.streams.student)
        ]
        stored = {
            key: name for key, name in at.tensors.items() if name in self.source.report["matrices"]
        }
        largest = largest_eigenvalue(_moment(inputs)) if stored else 0.0
        for key, name in stored.items():
            matrix, W = self.source.linear(name), at.weight(key)
            assert isinstance(matrix, PackedMatrix)
            sums = _window_sums(W, W - matrix.to_dense(), inputs, self.threads)
            error, stderr = ratio_of(sums)
            energy = float(sums[:, 1].sum())
            theory = theorem_bound(matrix, code_spacing(matrix), largest, energy)
            self.sums[name], self.found[name] = sums, HeldOutError(error, stderr, theory)
            self.advance()
        return {}


def _moment(inputs: Sequence[F32]) -> Moment:
    """X^T X of the rows of all windows, (n, n), kept as rows where they are few."""
    tokens, n = sum(map(len, inputs)), inputs[0].shape[1]
    if tokens < n:
        rows = np.concatenate(list(inputs))
        return DiagonalPlusLowRank(np.zeros(n), rows, np.ones(tokens, np.float32))
    H = np.zeros((n, n))
    for x in inputs:
        H += x.T @ x
    return H


def _window_sums(W: F32, E: F32, inputs: Sequence[F32], threads: int) -> F64:
    """Sum |E x|^2 and sum |W x|^2 of each window, (N, 2)."""

    def one(x: F32) -> tuple[float, float]:
        return _energy(x @ E.T), _energy(x @ W.T)

    return np.array(list(ordered_map(one, inputs, threads)))


def _energy(y: F32) -> float:
    return float(np.einsum("ij,ij->", y, y, dtype=np.float64))


def ratio_of(sums: F64) -> tuple[float | None, float | None]:
    """The root of the ratio of two sums over windows, and its standard error.

    Parameters
    ----------
    sums : (N, 2) float64
        Numerator a and denominator b of each window.

    Returns
    -------
    (float or None, float or None)
        sqrt(r), r = sum a / sum b, None where the latter is 0; and its standard error,
        sqrt(N / (N - 1) sum (a - r b)^2) / (2 sqrt(r) sum b), None for a single window.

    Notes
    -----
    Linearized ratio estimator: Cochran, Sampling Techniques, 3rd ed., section 6.4.

    Examples
    --------
    >>> ratio_of(np.array([[1.0, 4.0], [1.0, 4.0]]))
    (0.5, 0.0)
    """
    top, bottom = sums.sum(axis=0)
    if bottom <= 0:
        return None, None
    ratio = top / bottom
    error = math.sqrt(ratio)
    count = len(sums)
    if count < 2:
        return error, None
    if error == 0:
        return 0.0, 0.0
    deviations = sums[:, 0] - ratio * sums[:, 1]
    spread = math.sqrt(count / (count - 1) * float(deviations @ deviations))
    return error, spread / (2 * error * float(bottom))
