"""Rounding of the columns of a panel one after the other, by trellises whose tiles are columns.

LDLQ and its polish in one compiled loop each, for every code that has a search: what NumPy would do
between two searches costs as much as they do. Errors act within the panel here; what comes from
beyond it is in what is given. A tile of ``rows`` rows and ``256 // rows`` columns is a band's;
``scale`` f32 (1,) or (m,) divides what is rounded.

Source: QuIP#, arXiv 2402.04396, section 4.2 (block LDLQ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.encode.rings import nearest_ring, ring_tables, ring_work
from lrc_kernels.cpu.encode.viterbi import FREE, nearest_path, path_work
from lrc_kernels.trellis_code import TILE, UNIT
from lrc_kernels.trellis_fixed import MOST, STEPS, hashed_code, shuffled_code

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I16 = NDArray[np.int16]
U16 = NDArray[np.uint16]


@njit(inline=True)
def _fixed(target: F32, scale: F32, first: Any, rows: Any, a: Any, step: Any, z: I16) -> None:
    """The tile of rows ``first`` and columns ``a`` on in fixed point; zero beyond the last."""
    limit = np.float32(MOST) / step
    for t in range(TILE):
        row, column = first + t % rows, a + t // rows
        unit = scale[row] if scale.shape[0] > 1 else scale[0]
        value = np.float32(0)
        if column < target.shape[1] and unit != 0:
            value = target[row, column] / unit
        z[t] = np.int16(np.rint(min(max(value, -limit), limit) * step))


@njit(inline=True)
def _decoded(path: U16, levels: F32, scale: F32, first: Any, rows: Any, a: Any, out: F32) -> None:
    """Values of the states of a tile, f32 (m, b)."""
    for t in range(TILE):
        row = first + t % rows
        unit = scale[row] if scale.shape[0] > 1 else scale[0]
        out[row, t // rows] = levels[t & (levels.shape[0] - 1), path[t]] * unit


@njit(inline=True)
def _kept(states: U16, path: U16, first: Any, rows: Any, block: Any) -> None:
    for t in range(TILE):
        states[first + t % rows, block, t // rows] = path[t]


@njit(inline=True)
def _fed_back(target: F32, change: F32, own: F32, a: Any, width: Any, sign: Any) -> None:
    """Columns before ``a``, changed by what the ``width`` ones from there did."""
    for row in range(target.shape[0]):
        for c in range(width):
            amount = sign * change[row, c]
            for j in range(a):
                target[row, j] += amount * own[a + c, j]


@njit(inline=True)
def _ldlq(
    search: Any, work: Any, tables: Any, levels: F32, bits: int, state_bits: int, rows: int,
    step: Any, weights: F32, target: F32, own: F32, scale: F32, states: U16, values: F32,
    error: F32,
) -> None:  # fmt: skip
    (m, n), b = target.shape, TILE // rows
    scratch = work(tables, bits, state_bits)
    z, path, found = (
        np.empty(TILE, np.int16),
        np.empty(TILE, np.uint16),
        np.empty((m, b), np.float32),
    )
    for block in range((n - 1) // b, -1, -1):
        a = block * b
        width = min(b, n - a)
        for first in range(0, m, rows):
            _fixed(target, scale, first, rows, a, step, z)
            search(z, tables, bits, FREE, scratch, path)
            _kept(states, path, first, rows, block)
            _decoded(path, levels, scale, first, rows, a, found)
        for row in range(m):
            for c in range(width):
                values[row, a + c] = found[row, c]
                found[row, c] = weights[row, a + c] - found[row, c]
                error[row, a + c] = found[row, c]
        _fed_back(target, found, own, a, width, np.float32(1))


@njit(inline=True)
def _wanted(gradient: F32, values: F32, inverse: F32, a: Any, width: Any, out: F32) -> None:
    """The minimiser of ``width`` columns from ``a`` on, all others given."""
    for row in range(values.shape[0]):
        for c in range(width):
            total = np.float32(0)
            for d in range(width):
                total += gradient[row, a + d] * inverse[d, c]
            out[row, a + c] = values[row, a + c] + total


@njit(inline=True)
def _gain(delta: F32, gradient: F32, own: F32, first: Any, rows: Any, a: Any, width: Any) -> Any:
    """How much the loss changes where these rows change by ``delta`` in columns ``a`` on."""
    total = 0.0
    for row in range(first, first + rows):
        for c in range(width):
            product = np.float32(0)
            for d in range(width):
                product += delta[row, d] * own[a + d, a + c]
            product -= np.float32(2) * gradient[row, a + c]
            total += np.float64(product) * np.float64(delta[row, c])
    return total


@njit(inline=True)
def _polish(
    search: Any, work: Any, tables: Any, levels: F32, bits: int, state_bits: int, rows: int,
    step: Any, cut: int, gradient: F32, own: F32, inverses: F32, scale: F32, states: U16,
    values: F32, error: F32,
) -> Any:  # fmt: skip
    (m, n), b = values.shape, TILE // rows
    scratch = work(tables, bits, state_bits)
    z, rotated = np.empty(TILE, np.int16), np.empty(TILE, np.int16)
    path, found = np.empty(TILE, np.uint16), np.empty(TILE, np.uint16)
    wanted = np.empty_like(values)
    fresh, delta = np.empty((m, b), np.float32), np.empty((m, b), np.float32)
    moved = 0
    for block in range((n - 1) // b, -1, -1):
        a = block * b
        width = min(b, n - a)
        _wanted(gradient, values, inverses[block], a, width, wanted)
        for first in range(0, m, rows):
            _fixed(wanted, scale, first, rows, a, step, z)
            last = (cut - 1) % TILE
            shared = np.int64(states[first + last % rows, block, last // rows]) >> bits
            for t in range(TILE):
                rotated[t] = z[(t + cut) % TILE]
            search(rotated, tables, bits, shared, scratch, found)
            for t in range(TILE):
                path[(t + cut) % TILE] = found[t]
            _decoded(path, levels, scale, first, rows, a, fresh)
            for row in range(first, first + rows):
                for c in range(width):
                    delta[row, c] = fresh[row, c] - values[row, a + c]
            if _gain(delta, gradient, own, first, rows, a, width) < 0:
                _kept(states, path, first, rows, block)
                moved += rows
                for row in range(first, first + rows):
                    for c in range(width):
                        values[row, a + c] = fresh[row, c]
                        error[row, a + c] -= delta[row, c]
            else:
                delta[first : first + rows] = 0
        _fed_back(gradient, delta, own, a, width, np.float32(-1))
    return moved


@njit()
def _ldlq_rings(
    tables: Any, levels: F32, bits: int, state_bits: int, rows: int, step: Any, weights: F32,
    target: F32, own: F32, scale: F32, states: U16, values: F32, error: F32,
) -> None:  # fmt: skip
    _ldlq(
        nearest_ring, ring_work, tables, levels, bits, state_bits, rows, step, weights, target,
        own, scale, states, values, error,
    )  # fmt: skip


@njit()
def _ldlq_paths(
    tables: Any, levels: F32, bits: int, state_bits: int, rows: int, step: Any, weights: F32,
    target: F32, own: F32, scale: F32, states: U16, values: F32, error: F32,
) -> None:  # fmt: skip
    _ldlq(
        nearest_path, path_work, tables, levels, bits, state_bits, rows, step, weights, target,
        own, scale, states, values, error,
    )  # fmt: skip


@njit()
def _polish_rings(
    tables: Any, levels: F32, bits: int, state_bits: int, rows: int, step: Any, cut: int,
    gradient: F32, own: F32, inverses: F32, scale: F32, states: U16, values: F32, error: F32,
) -> Any:  # fmt: skip
    return _polish(
        nearest_ring, ring_work, tables, levels, bits, state_bits, rows, step, cut, gradient,
        own, inverses, scale, states, values, error,
    )  # fmt: skip


@njit()
def _polish_paths(
    tables: Any, levels: F32, bits: int, state_bits: int, rows: int, step: Any, cut: int,
    gradient: F32, own: F32, inverses: F32, scale: F32, states: U16, values: F32, error: F32,
) -> Any:  # fmt: skip
    return _polish(
        nearest_path, path_work, tables, levels, bits, state_bits, rows, step, cut, gradient,
        own, inverses, scale, states, values, error,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ColumnSearch:
    """A trellis code, as these loops search it."""

    bits: int
    state_bits: int
    tables: tuple[Any, ...]
    levels: F32
    ldlq_loop: Callable[..., None]
    polish_loop: Callable[..., int]

    @property
    def _step(self) -> np.float32:
        return np.float32(UNIT * STEPS[self.bits])

    def ldlq(
        self, rows: int, weights: F32, target: F32, own: F32, scale: F32, states: U16,
        values: F32, error: F32,
    ) -> None:  # fmt: skip
        """Round a panel from its last columns to its first, each corrected by those before.

        Parameters
        ----------
        rows : int
            Those of a tile.
        weights, target : float32 arrays, shape (m, w)
            W, and W corrected by the errors beyond the panel; the latter is overwritten.
        own : float32 array, shape (w, w)
            The panel's part of the feedback.
        scale : float32 array, shape (1,) or (m,)
        states : uint16 array, shape (m, ceil(w / b), b)
            States of the columns of each tile, of which there are b: written.
        values, error : float32 arrays, shape (m, w)
            Q and W - Q: written.
        """
        self.ldlq_loop(
            self.tables, self.levels, self.bits, self.state_bits, rows, self._step, weights, target,
            own, scale, states, values, error,
        )  # fmt: skip

    def polish(
        self, rows: int, cut: int, gradient: F32, own: F32, inverses: F32, scale: F32,
        states: U16, values: F32, error: F32,
    ) -> int:  # fmt: skip
        """Change columns of a panel where that lowers the loss; how many rows changed.

        Parameters
        ----------
        rows : int
            Those of a tile.
        cut : int
            The weight of a ring where it is cut for the search: the bits that it shares with the
            one before stay as they are.
        gradient : float32 array, shape (m, w)
            (W - Q) H in the panel; overwritten.
        own : float32 array, shape (w, w)
            The panel's part of H.
        inverses : float32 array, shape (ceil(w / b), b, b)
            Those of its diagonal blocks.
        scale : float32 array, shape (1,) or (m,)
        states, values, error
            As in :meth:`ldlq`; changed.
        """
        return self.polish_loop(
            self.tables, self.levels, self.bits, self.state_bits, rows, self._step, cut, gradient,
            own, inverses, scale, states, values, error,
        )  # fmt: skip


@cache
def hashed_columns(bits: int, state_bits: int) -> ColumnSearch:
    """The code of :mod:`lrc_kernels.trellis_code`."""
    code = hashed_code(bits, state_bits)
    return ColumnSearch(bits, state_bits, (code.values,), code.levels, _ldlq_paths, _polish_paths)


@cache
def shuffled_columns(bits: int, state_bits: int) -> ColumnSearch:
    """A code of :mod:`lrc_kernels.shuffle_code`."""
    levels = shuffled_code(bits, state_bits).levels
    tables = ring_tables(bits, state_bits)
    return ColumnSearch(bits, state_bits, tables, levels, _ldlq_rings, _polish_rings)
