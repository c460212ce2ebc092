"""The batch engine: the next token of several sequences at once, so that weights are read once."""

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
        lengths = {cache.max_length for cache in caches}
        if len(lengths) != 1 or len(caches) != len(start):
            raise SpecError(
                f"{len(start)} tokens need as many caches of one length; there are {len(caches)} "
                f"of {sorted(lengths)}"
            )
        note_compilation(progress)
        source = self._program.source
        for cache in caches:
            cache.reserve(1)
        rows = [source.cached(cache).rows for cache in caches]
        positions = np.array([cache.length for cache in caches])
        buffers = self._buffers_for(len(caches), int(positions.max()) + 1)
        passing = Passing(
            buffers.begin(start, layers=len(rows[0]), apart=True),
            np.stack([np.arange(len(caches)), positions], axis=1),
            np.concatenate(rows), np.zeros((0, 2), np.int64),
            source.angles(positions, lengths.pop()),
        )  # fmt: skip
        run_stages(self._program, self._team, buffers, passing)
        for cache in caches:
            cache.advance(1)
        return buffers.outputs(len(caches))

    def _buffers_for(self, most: int, reach: int) -> PromptBuffers:
        """Buffers that are large enough, made anew when they are not."""
        known = self._buffers
        if known is None or known.most < most or known.reach < reach:
            before = (0, 0) if known is None else (known.most, known.reach)
            size = max(most, before[0]), max(2 * reach, before[1])
            self._buffers = known = PromptBuffers(self._program, *size, self._team.threads)
        return known
