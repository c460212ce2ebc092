"""The two streams of activations: the original model's and the compressed prefix's.

Each holds, for every chunk of windows, the residual stream h and the input x of the current
site; nothing else is kept, and only one block of each model is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks, ordered_map
from lrc.linalg.second_moment import ChunkMoment, SecondMoment, chunk_moment
from lrc.models.base import Block

Array = NDArray[np.float32]

#: Tokens worked on together: the unit of parallel work, whatever the thread count.
CHUNK_TOKENS = 2048
#: Inputs up to which the moments of several chunks may exist side by side.
_SIDE_BY_SIDE = 4096


@dataclass
class Stream:
    """Activations of one model between two sites; it moves on in place, chunk by chunk.

    ``hidden`` and ``inputs`` hold one float32 array (b, T, n) a chunk. Memory: 4 bytes a token
    and channel, for the residual stream and the widest site's input; the same memory is used
    from block to block, because arrays that come and go leave holes of a gigabyte in the heap.
    """

    hidden: list[Array]
    inputs: list[Array]
    _buffers: list[Array] = field(default_factory=list, repr=False)

    @classmethod
    def start(cls, hidden: Iterable[Array]) -> Stream:
        """A stream at the entrance of the first block; it owns the arrays from then on."""
        return cls(list(hidden), [])

    def enter(self, block: Block, threads: int) -> Stream:
        """Move to the block's first site; returns itself."""
        for chunk, entered in enumerate(ordered_map(block.enter, self.hidden, threads)):
            self._keep_inputs(chunk, entered)
        return self

    def step(self, block: Block, site_index: int, threads: int) -> Stream:
        """Move through the linears of one site, to the next; returns itself."""
        positions = np.arange(self.hidden[0].shape[1])

        def work(chunk: int) -> tuple[Array, Array]:
            return block.step(site_index, self.hidden[chunk], self.inputs[chunk], positions)

        count = len(self.hidden)
        for chunk, (hidden, inputs) in enumerate(ordered_map(work, range(count), threads)):
            if hidden is not self.hidden[chunk]:
                np.copyto(self.hidden[chunk], hidden)
            self._keep_inputs(chunk, inputs)
        return self

    def _keep_inputs(self, chunk: int, fresh: Array) -> None:
        """Copy the chunk's inputs into its buffer, which is as large as the widest so far."""
        if chunk == len(self._buffers) or self._buffers[chunk].size < fresh.size:
            self._buffers[chunk : chunk + 1] = [fresh.reshape(-1)]
        view = self._buffers[chunk][: fresh.size].reshape(fresh.shape)
        if not np.may_share_memory(view, fresh):
            np.copyto(view, fresh)
        self.inputs[chunk : chunk + 1] = [view]


def window_chunks(windows: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Windows (N, T) in chunks of about ``CHUNK_TOKENS`` tokens."""
    size = max(CHUNK_TOKENS // windows.shape[1], 1)
    return [windows[part] for part in chunks(len(windows), size)]


def site_moment(
    student: Stream,
    original: Stream | None,
    threads: int,
    *,
    residual_gap: bool = False,
    rows: Callable[[Array], NDArray[np.bool_] | None] | None = None,
) -> SecondMoment:
    """Moments at the current site; with ``original`` also the cross moment of both streams.

    ``residual_gap``: and that of the difference of their residual streams, for a site that writes
    there. ``rows`` says which of the student's inputs count, as `Site.rows`; all by default.
    Chunks are summed in order, so threads do not change a bit. Cost 2 T n^2 a moment.
    """
    n, d = student.inputs[0].shape[-1], student.hidden[0].shape[-1]
    residual_gap = residual_gap and original is not None
    moment = SecondMoment(n, cross=original is not None, residual_gap=d if residual_gap else 0)

    def work(chunk: int) -> ChunkMoment:
        seen = None if rows is None else rows(student.inputs[chunk])

        def flat(values: Array) -> Array:
            every = values.reshape(-1, values.shape[-1])
            return every if seen is None else every[seen.reshape(-1)]

        z = flat(student.inputs[chunk])
        if original is None:
            return chunk_moment(z)
        x = flat(original.inputs[chunk])
        if not residual_gap:
            return chunk_moment(z, x)
        return chunk_moment(z, x, flat(original.hidden[chunk] - student.hidden[chunk]))

    side_by_side = threads if n <= _SIDE_BY_SIDE else 1
    for part in ordered_map(work, range(len(student.inputs)), side_by_side):
        moment.add(part)
    return moment
