"""The two streams of activations: the original model's and the compressed prefix's.

Each holds, for every chunk of windows, the residual stream h and the input x of the current
site; nothing else is kept, and only one block of each model is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.second_moment import ChunkMoment, SecondMoment, chunk_moment
from lrc.models.llama import LlamaBlock
from lrc.threads import chunks, ordered_map

Array = NDArray[np.float32]

#: Tokens worked on together: the unit of parallel work, whatever the thread count.
CHUNK_TOKENS = 2048


@dataclass(frozen=True)
class Stream:
    """Activations of one model between two sites.

    ``hidden`` and ``inputs`` hold one float32 array (b, T, n) a chunk. Memory: 4 bytes a token
    and channel, for the residual stream and the site's input.
    """

    hidden: tuple[Array, ...]
    inputs: tuple[Array, ...]

    @classmethod
    def start(cls, hidden: tuple[Array, ...]) -> Stream:
        """A stream at the entrance of the first block."""
        return cls(hidden, ())

    def enter(self, block: LlamaBlock, threads: int) -> Stream:
        """Inputs of the block's first site."""
        return Stream(self.hidden, tuple(ordered_map(block.enter, self.hidden, threads)))

    def step(self, block: LlamaBlock, site_index: int, threads: int) -> Stream:
        """Through the linears of one site, to the next."""
        positions = np.arange(self.hidden[0].shape[1])

        def work(pair: tuple[Array, Array]) -> tuple[Array, Array]:
            return block.step(site_index, *pair, positions)

        moved = list(ordered_map(work, zip(self.hidden, self.inputs, strict=True), threads))
        return Stream(tuple(h for h, _ in moved), tuple(x for _, x in moved))


def window_chunks(windows: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Windows (N, T) in chunks of about ``CHUNK_TOKENS`` tokens."""
    size = max(CHUNK_TOKENS // windows.shape[1], 1)
    return [windows[part] for part in chunks(len(windows), size)]


def site_moment(student: Stream, original: Stream | None, threads: int) -> SecondMoment:
    """Moments at the current site; with ``original`` also the cross moment of both streams.

    Chunks are summed in order, so threads do not change a bit. Cost 2 T n^2 a moment.
    """
    n = student.inputs[0].shape[-1]
    moment = SecondMoment(n, cross=original is not None)
    pairs = zip(student.inputs, original.inputs if original else student.inputs, strict=True)

    def work(pair: tuple[Array, Array]) -> ChunkMoment:
        z, x = (a.reshape(-1, n) for a in pair)
        return chunk_moment(z, x if original is not None else None)

    for part in ordered_map(work, pairs, threads):
        moment.add(part)
    return moment
