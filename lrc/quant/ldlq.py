"""LDLQ: rounding with linear feedback, and a polish that only ever lowers the loss.

Minimises tr((W - Q) H (W - Q)^T) over codes. Rows are independent, so both loops run over
fixed chunks of rows; feedback inside a column panel is rank-b, between them one GEMM.
Source: QuIP#, arXiv 2402.04396, section 4.2 (block LDLQ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks, ordered_map
from lrc.linalg.diagonal_plus_low_rank import Moment, block_of, diagonal_of
from lrc.linalg.running_product import Feedback, running_feedback, running_product
from lrc.quant.base import Codes, Quantizer
from lrc.quant.columns import column_search, ldlq_columns, polish_columns

COLUMN_PANEL = 128
_CHUNK_ROWS = 256
#: Where compiled loops round: small enough for all threads to have some of a small matrix.
_CHUNK_BANDS = 128


@dataclass(frozen=True)
class Rounded:
    """Codes a quantizer chose and their values: ``values`` float32 (m, n) = scale * decode."""

    codes: Codes
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """A quantizer with its decode-side scales, float32 (1|m, 1|n): one a matrix, row or column."""

    quantizer: Quantizer
    scale: NDArray[np.float32]

    def rows(self, part: slice) -> Grid:
        """The same grid for some rows."""
        return Grid(self.quantizer, self.scale if len(self.scale) == 1 else self.scale[part])

    def columns(self, part: slice) -> NDArray[np.float32]:
        """Scales of some columns."""
        return self.scale if self.scale.shape[1] == 1 else self.scale[:, part]

    def round(self, Z: NDArray[np.float32], columns: slice) -> tuple[Codes, NDArray[np.float32]]:
        """Nearest codewords of columns ``columns`` (Z holds just those); pads a ragged block."""
        scale = self.columns(columns)
        width = Z.shape[1]
        pad = -width % self.quantizer.block_size
        scaled = np.divide(Z, scale, out=np.zeros_like(Z), where=scale != 0)
        if pad:
            scaled = np.pad(scaled, ((0, 0), (0, pad)))
        codes = self.quantizer.encode(np.ascontiguousarray(scaled))
        return codes, self.quantizer.decode(codes)[:, :width] * scale


def round_to_nearest(W: NDArray[np.float32], grid: Grid) -> Rounded:
    """Nearest codewords with no feedback; the minimiser when H is a multiple of I."""
    codes, values = grid.round(W, slice(0, W.shape[1]))
    return Rounded(codes, values.astype(np.float32, copy=False))


def ldlq(
    W: NDArray[np.float32],
    feedback: Feedback,
    grid: Grid,
    *,
    threads: int = 1,
    device: str = "cpu",
) -> Rounded:
    """Round columns from the last block to the first, each corrected by the errors so far.

    Block k is rounded at ``W_k + sum_{j>k} (W_j - Q_j) U[j, k]`` with U = ``feedback``, the
    strictly block-lower part of the unit factor of H = U D U^T.

    Parameters
    ----------
    W : float32 array, shape (m, n)
    feedback : float32 array, shape (n, n), or of low rank
        From :func:`lrc.linalg.factor.feedback_matrix` or
        :func:`lrc.linalg.diagonal_plus_low_rank.block_ldl`, with the quantizer's block size.
    grid : Grid
    threads : int
        Rows are cut into chunks alike for any count, so it never changes the codes.
    device : str
        ``"cuda"`` for what :mod:`lrc.quant.cuda` knows; the CPU does the rest.

    Notes
    -----
    Law: with eta = (W - Q) U (unit diagonal included), tr((W-Q) H (W-Q)^T) = tr(eta D eta^T)
    for any rounding. Cost m n^2 plus the rounding.
    """
    if device != "cpu":
        from lrc.quant import cuda

        if (there := cuda.ldlq(W, feedback, grid)) is not None:
            return there
    together = grid.quantizer.block_rows

    def work(rows: slice) -> Rounded:
        return _ldlq_rows(W[rows], feedback, grid.rows(rows))

    return over_rows(work, W.shape, together, threads)


def _ldlq_rows(W: NDArray[np.float32], feedback: Feedback, grid: Grid) -> Rounded:
    n, b = W.shape[1], grid.quantizer.block_size
    search = column_search(grid.quantizer, grid.scale)
    if search is not None:
        states, found = ldlq_columns(
            search, W, feedback, grid.quantizer, grid.scale, _column_panels(n, b)
        )
        return Rounded((states,), found)
    values = np.empty_like(W)
    error = np.empty_like(W)
    codes: list[Codes] = []
    running = running_feedback(feedback, len(W))
    for at in reversed(_column_panels(n, b)):
        start, stop = at.start, at.stop
        target = W[:, at] + running.columns(error, at)
        within = running.within(at)
        for a in range(start + (stop - start - 1) // b * b, start - 1, -b):
            z = min(a + b, stop)
            block, rounded = grid.round(target[:, a - start : z - start], slice(a, z))
            codes.append(block)
            values[:, a:z] = rounded
            error[:, a:z] = W[:, a:z] - rounded
            if a > start:
                own = within[a - start : z - start, : a - start]
                target[:, : a - start] += error[:, a:z] @ own
        running.changed(error[:, at], at)
    return Rounded(_join(codes[::-1]), values)


def polish(
    W: NDArray[np.float32],
    rounded: Rounded,
    H: Moment,
    grid: Grid,
    sweeps: int,
    *,
    dither: float = 0.0,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
) -> Rounded:
    """Block coordinate descent on the codes: a move is taken only if it lowers the loss.

    For each block the unconstrained minimiser given all others is rounded to the nearest
    codeword, and kept where ``delta H_kk delta^T - 2 delta g < 0`` with g the block of
    (W - Q) H. Nearest in the Euclidean sense is not best under H_kk, so with ``dither`` > 0
    Gaussian noise of that many scales is added before rounding, to try neighbours too; its
    seeds belong to row chunks, not to threads. Without it a sweep that moves nothing is the last.

    Parameters
    ----------
    W : float32 array, shape (m, n)
    H : float32 array, shape (n, n), or of low rank beside a diagonal
        Not damped.
    rounded : Rounded
        Where to start; not modified.
    sweeps : int
        Passes over all blocks, last block first.
    device : str
        As in :func:`ldlq`.

    Notes
    -----
    Law: the loss never rises. Cost 2 m n^2 a sweep.
    """
    if sweeps == 0:
        return rounded
    if device != "cpu" and dither == 0.0:
        from lrc.quant import cuda

        if (there := cuda.polish(W, rounded, H, grid, sweeps)) is not None:
            return there
    inverses = block_inverses(H, grid.quantizer.block_size)

    def work(rows: slice) -> Rounded:
        part = Rounded(tuple(c[rows] for c in rounded.codes), rounded.values[rows])
        noise = _Dither(dither, np.random.default_rng((seed, rows.start)))
        return _polish_rows(W[rows], part, H, inverses, grid.rows(rows), sweeps, noise)

    return over_rows(work, W.shape, grid.quantizer.block_rows, threads)


def block_inverses(H: Moment, block_size: int) -> list[NDArray[np.float32]]:
    """Pseudo-inverses of the diagonal blocks of H, float32 (b, b); the last may be smaller."""
    n = len(H)
    if block_size == 1:
        diagonal = diagonal_of(H).astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            inverse = np.divide(1, diagonal, out=np.zeros_like(diagonal), where=diagonal != 0)
        return list(inverse[:, None, None])
    blocks = [block_of(H, columns) for columns in chunks(n, block_size)]
    ragged = [np.linalg.pinv(blocks.pop())] if n % block_size else []
    return [*(np.linalg.pinv(np.stack(blocks)) if blocks else ()), *ragged]


@dataclass(frozen=True)
class _Dither:
    size: float
    rng: np.random.Generator

    def on(self, Z: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.size == 0.0:
            return Z
        noise = self.rng.standard_normal(Z.shape, dtype=np.float32)
        return Z + noise * (np.float32(self.size) * scale)


def _polish_rows(
    W: NDArray[np.float32],
    begin: Rounded,
    H: Moment,
    inverses: list[NDArray[np.float32]],
    grid: Grid,
    sweeps: int,
    dither: _Dither,
) -> Rounded:
    n = W.shape[1]
    b, together = grid.quantizer.block_size, grid.quantizer.block_rows
    search = column_search(grid.quantizer, grid.scale)
    if search is not None and dither.size == 0.0:
        states, found = polish_columns(
            search,
            W,
            begin.codes[0],
            begin.values,
            H,
            inverses,
            grid.quantizer,
            grid.scale,
            _column_panels(n, b),
            sweeps,
        )
        return Rounded((states,), found)
    values = begin.values.copy()
    codes = tuple(c.copy() for c in begin.codes)
    error = W - values
    running = running_product(H, error)
    for _ in range(sweeps):
        moved = 0
        for at in reversed(_column_panels(n, b)):
            start, stop = at.start, at.stop
            gradient, within = running.columns(error, at), running.within(at)
            before = error[:, at].copy()
            for a in range(start + (stop - start - 1) // b * b, start - 1, -b):
                z = min(a + b, stop)
                g = gradient[:, a - start : z - start]
                step: NDArray[np.float32] = np.matmul(g, inverses[a // b])
                wanted = dither.on(values[:, a:z] + step, grid.columns(slice(a, z)))
                block, rounded = grid.round(wanted, slice(a, z))
                delta = rounded - values[:, a:z]
                own = within[a - start : z - start]
                gain = np.einsum("ij,ij->i", delta @ own[:, a - start : z - start] - 2.0 * g, delta)
                take = np.repeat(gain.reshape(-1, together).sum(axis=1) < 0, together)
                if not take.any():
                    continue
                moved += int(take.sum())
                delta *= take[:, None]
                values[take, a:z] = rounded[take]
                error[:, a:z] -= delta
                gradient -= delta @ own
                for plane, fresh in zip(codes, block, strict=True):
                    plane[take, a // b] = fresh[take, 0]
            running.changed(error[:, at] - before, at)
        if moved == 0 and dither.size == 0.0:
            break
    return Rounded(codes, values)


def _column_panels(n: int, block_size: int) -> list[slice]:
    return chunks(n, max(COLUMN_PANEL // block_size, 1) * block_size)


def over_rows(
    work: Callable[[slice], Rounded], shape: tuple[int, int], together: int, threads: int
) -> Rounded:
    """What ``work`` makes of chunks of a matrix' rows, alike for any threads, put together.

    ``together`` rows are coded as one.
    """
    parts = chunks(shape[0], _CHUNK_ROWS if together == 1 else max(_CHUNK_BANDS, together))
    values, codes = np.empty(shape, np.float32), []
    for rows, part in zip(parts, ordered_map(work, parts, threads), strict=True):
        values[rows] = part.values  # chunks go as they come: they would be the matrix once more
        codes.append(part.codes)
    return Rounded(tuple(np.concatenate(of) for of in zip(*codes, strict=True)), values)


def _join(blocks: list[Codes]) -> Codes:
    return tuple(np.concatenate(planes, axis=1) for planes in zip(*blocks, strict=True))
