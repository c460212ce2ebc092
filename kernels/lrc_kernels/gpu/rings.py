"""Nearest paths of trellises on a CUDA device, and rounding with them column by column.

Arrays come from the host and go back there: once an LDLQ or a polish, not once a column. A ring is
a block of threads (``rings.cu``), so a matrix of m rows keeps m / 256 multiprocessors at work;
calls from several threads run side by side, each on a stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels.gpu.device import compiled, cupy
from lrc_kernels.trellis_code import TILE, UNIT
from lrc_kernels.trellis_fixed import DOUBLINGS, STEPS, RingCode

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]

#: Threads of a block: at least a ring's weights, at most what a block may have.
_LEAST_THREADS, _MOST_THREADS = TILE, 1024
#: Bytes of shared memory that a block needs beside costs and choices.
_FIXED_BYTES = 4096
#: Blocks a multiprocessor that are given work at a time; the others' rings follow.
_BLOCKS = 8


@dataclass(frozen=True)
class Layout:
    """Where a block's costs and choices lie: in its shared memory, or in the device's.

    ``shared`` and ``work`` are their bytes a block there and here.
    """

    threads: int
    shared_costs: bool
    shared_back: bool
    shared: int
    work: int


def layout(bits: int, state_bits: int, limit: int) -> Layout:
    """The layout under ``limit`` bytes of shared memory a block: costs first, then choices."""
    states, groups = 1 << state_bits, 1 << (state_bits - bits)
    costs, back = 4 * states, TILE // 8 * groups * (2 if bits == 2 else 4)
    left = limit - _FIXED_BYTES
    shared_costs = costs <= left
    left -= costs * shared_costs
    shared_back = back <= left
    return Layout(
        threads=min(max(groups, _LEAST_THREADS), _MOST_THREADS),
        shared_costs=shared_costs,
        shared_back=shared_back,
        shared=costs * shared_costs + back * shared_back,
        work=0 if shared_costs and shared_back else costs + back,
    )


def constants(code: RingCode, where: Layout) -> dict[str, int | str]:
    """What ``rings.cu`` has to be told."""
    return {
        "BITS": code.bits,
        "STATE_BITS": code.state_bits,
        "PERIOD": len(code.values),
        "DOUBLINGS": DOUBLINGS[code.bits],
        "THREADS": where.threads,
        "STEP": f"{UNIT * STEPS[code.bits]}.0f",
        "SHARED_COSTS": int(where.shared_costs),
        "SHARED_BACK": int(where.shared_back),
    }


@dataclass(frozen=True)
class _Search:
    """The kernels of a code on the device, and its tables there."""

    module: Any
    where: Layout
    values: Any
    levels: Any
    most_blocks: int

    def __call__(self, name: str, rings: int, *arguments: Any) -> None:
        """Launch kernel ``name`` over rings; None among the arguments stands for its buffer."""
        blocks = min(rings, self.most_blocks)
        work = cupy().empty(max(blocks * self.where.work, 1), np.uint8)
        kernel = self.module.get_function(name)
        kernel.max_dynamic_shared_size_bytes = self.where.shared
        given = tuple(work if argument is None else argument for argument in arguments)
        kernel((blocks,), (self.where.threads,), given, shared_mem=self.where.shared)


@cache
def _search(code: RingCode) -> _Search:
    device = cupy().cuda.Device()
    limit = device.attributes["MaxSharedMemoryPerBlockOptin"]
    where = layout(code.bits, code.state_bits, limit)
    module = compiled("rings.cu", **constants(code, where))
    values, levels = cupy().asarray(code.values), cupy().asarray(code.levels)
    device.synchronize()  # other streams read the tables
    blocks = _BLOCKS * device.attributes["MultiProcessorCount"]
    return _Search(module, where, values, levels, blocks)


@contextmanager
def own_stream() -> Iterator[None]:
    """Run on a stream of this call alone; done when the block is left."""
    stream = cupy().cuda.Stream(non_blocking=True)
    with stream:
        yield
        stream.synchronize()


def encode_rings(Z: F32, code: RingCode) -> U16:
    """States of the path nearest to each ring of Z f32 (rings, 256): the bits of the CPU's."""
    search = _search(code)
    with own_stream():
        states = cupy().empty((len(Z), TILE), np.uint16)
        if len(Z):
            rings = np.int32(len(Z))
            Z = cupy().asarray(Z, np.float32)
            search("encode_rings", len(Z), Z, search.values, rings, None, states)
        found: U16 = states.get()
    return found


def ldlq_rings(W: F32, feedback: F32, scale: F32, code: RingCode, width: int) -> tuple[U16, F32]:
    """LDLQ of W (m, n), 256 dividing m: states u16 (m, n) and values f32 (m, n).

    Parameters
    ----------
    feedback : float32 array, shape (n, n)
        Strictly lower part of the unit factor.
    scale : float32 array, shape (1, 1) or (m, 1)
    width : int
        Columns between which products are sums in the order of the columns, as on the CPU.
        What lies further off is a product by cuBLAS, which rounds sums in another order.
    """
    search, xp = _search(code), cupy()
    m, n = W.shape
    with own_stream():
        columns, U, scales = _by_columns(W), xp.asarray(feedback), xp.asarray(scale)
        values, error = xp.empty_like(columns), xp.empty_like(columns)
        states = xp.empty((n, m), np.uint16)
        for start in reversed(range(0, n, width)):
            stop = min(start + width, n)
            target = columns[start:stop].copy()
            if stop < n:
                target += U[stop:, start:stop].T @ error[stop:]
            corner = xp.ascontiguousarray(U[start:stop, start:stop])
            search(
                "ldlq_column_panel", m // TILE,
                columns, target, corner, scales, _step(scale), search.values, search.levels,
                np.int32(m), np.int32(start), np.int32(stop - start), None, states, values, error,
            )  # fmt: skip
        return _by_rows(states), _by_rows(values)


def polish_rings(
    W: F32,
    states: U16,
    values: F32,
    H: F32,
    inverse: F32,
    scale: F32,
    code: RingCode,
    width: int,
    sweeps: int,
) -> tuple[U16, F32]:
    """Coordinate descent from ``states`` (m, n) and ``values``: what is found in their place.

    Parameters
    ----------
    inverse : float32 array, shape (n,)
        One over the diagonal of H (n, n), 0 where that is 0.
    sweeps : int
        At most; one that moves nothing is the last.
    """
    search, xp = _search(code), cupy()
    m, n = W.shape
    with own_stream():
        metric, inverses, scales = xp.asarray(H), xp.asarray(inverse), xp.asarray(scale)
        found, moved_values = _by_columns(states), _by_columns(values)
        error = _by_columns(W) - moved_values
        for _ in range(sweeps):
            moved = xp.zeros(1, np.int32)
            for start in reversed(range(0, n, width)):
                stop = min(start + width, n)
                gradient = metric[:, start:stop].T @ error
                corner = xp.ascontiguousarray(metric[start:stop, start:stop])
                search(
                    "polish_column_panel", m // TILE,
                    gradient, corner, inverses, scales, _step(scale), search.values, search.levels,
                    np.int32(m), np.int32(start), np.int32(stop - start), None,
                    found, moved_values, error, moved,
                )  # fmt: skip
            if int(moved[0]) == 0:
                break
        return _by_rows(found), _by_rows(moved_values)


def _step(scale: F32) -> np.int32:
    return np.int32(len(scale) > 1)


def _by_columns(matrix: NDArray[Any]) -> Any:
    """The transpose on the device, contiguous."""
    return cupy().ascontiguousarray(cupy().asarray(matrix).T)


def _by_rows(columns: Any) -> Any:
    return cupy().ascontiguousarray(columns.T).get()
