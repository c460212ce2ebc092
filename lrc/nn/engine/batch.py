"""The batch engine: tokens of several sequences at once, so that weights are read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.errors import SpecError
from lrc.nn.cache import KVCache
from lrc.nn.engine.prompt_buffers import PromptBuffers
from lrc.nn.engine.prompt_program import PromptProgram
from lrc.nn.engine.stage_calls import Passing, note_compilation, run_stages
from lrc.nn.engine.team import Team

F32 = NDArray[np.float32]


class BatchEngine:
    """Advances sequences together on 15-bit activations.

    What comes of a token depends neither on the other sequences nor on the number of threads.

    Parameters
    ----------
    program : PromptProgram
        Without states. Any number of engines may read it at the same time.
    team : Team
        Its threads share the work.
    """

    def __init__(self, program: PromptProgram, team: Team) -> None:
        self._program, self._team = program, team
        self._buffers: PromptBuffers | None = None

    def step(self, start: F32, caches: Sequence[KVCache], progress: Progress = SILENT) -> F32:
        """Advance each sequence by one token.

        Parameters
        ----------
        start : (S, hidden) float32
            Embeddings of the tokens, S at least 1.
        caches : sequence of KVCache
            One of each sequence, made for the same length; they receive the tokens' keys and
            values, and count them.
        progress : Progress
            Is told when the kernels have to be compiled first.

        Returns
        -------
        (S, hidden) float32
            Residual streams after the last block: a view that the next step overwrites.

        Raises
        ------
        SpecError
            When a cache is full or holds several sequences, or caches are not of one length.
        """
        return self.read(start, [1] * len(caches), caches, progress)

    def read(
        self,
        start: F32,
        counts: Sequence[int],
        caches: Sequence[KVCache],
        progress: Progress = SILENT,
    ) -> F32:
        """Advance each sequence by some tokens.

        Parameters
        ----------
        start : (T, hidden) float32
            Embeddings of the tokens, those of one sequence after those of another.
        counts : sequence of int
            How many each sequence has, 1 at least and `KVCache.most` at most.
        caches, progress
            As of `step`.

        Returns
        -------
        (T, hidden) float32
            As of `step`.

        Raises
        ------
        SpecError
            As `step` does, also when counts do not fit.
        """
        lengths = {cache.max_length for cache in caches}
        if len(lengths) != 1 or len(caches) != len(counts) or sum(counts) != len(start):
            raise SpecError(
                f"{len(start)} tokens in parts of {list(counts)} need as many caches of one "
                f"length; there are {len(caches)} of {sorted(lengths)}"
            )
        note_compilation(progress)
        source = self._program.source
        for cache, count in zip(caches, counts, strict=True):
            cache.reserve(count)
        rows = [source.cached(cache).rows for cache in caches]
        places = np.array([
            (i, cache.length + j)
            for i, (cache, count) in enumerate(zip(caches, counts, strict=True))
            for j in range(count)
        ])  # fmt: skip
        positions = places[:, 1]
        buffers = self._buffers_for(len(start), int(positions.max()) + 1)
        passing = Passing(
            buffers.begin(start, layers=len(rows[0]), apart=True),
            places, np.concatenate(rows), np.zeros((0, 2), np.int64),
            source.angles(positions, lengths.pop()),
        )  # fmt: skip
        run_stages(self._program, self._team, buffers, passing)
        for cache, count in zip(caches, counts, strict=True):
            cache.advance(count)
        return buffers.outputs(len(start))

    def _buffers_for(self, most: int, reach: int) -> PromptBuffers:
        """Buffers that are large enough, made anew when they are not."""
        known = self._buffers
        if known is None or known.most < most or known.reach < reach:
            before = (0, 0) if known is None else (known.most, known.reach)
            size = max(most, before[0]), max(2 * reach, before[1])
            self._buffers = known = PromptBuffers(self._program, *size, self._team.threads)
        return known
