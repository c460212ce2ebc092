"""The prompt engine: many tokens through every block, some layers in a compiled call a thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.nn.cache import KVCache
from lrc.nn.engine.prompt_buffers import PromptBuffers
from lrc.nn.engine.prompt_program import PromptProgram
from lrc.nn.engine.stage_calls import Passing, note_compilation, run_stages
from lrc.nn.engine.states import StateBuffers
from lrc.nn.engine.team import Team

F32 = NDArray[np.float32]

#: Most tokens that go through the layers together: more need more memory, fewer decode the
#: weights more often.
CHUNK = 512


class PromptEngine:
    """Works through prompts on 15-bit activations; the same bits for any number of threads.

    Parameters
    ----------
    program : PromptProgram
        Any number of engines may read it at the same time.
    team : Team
        Its threads share the work.
    """

    def __init__(self, program: PromptProgram, team: Team) -> None:
        self._program, self._team = program, team

    def advance(self, start: F32, cache: KVCache, progress: Progress = SILENT) -> F32:
        """Advance by several tokens.

        Parameters
        ----------
        start : (T, hidden) float32
            Embeddings of the tokens, T at least 1.
        cache : KVCache
            Of one sequence; receives the tokens' keys and values, and counts them.
        progress : Progress
            Is told when the kernels have to be compiled first.

        Returns
        -------
        (hidden,) float32
            The last token's residual stream after the last block.

        Raises
        ------
        SpecError
            When the cache is too small or holds several sequences.
        """
        for _, outputs in self._stretches(start, cache, progress):
            last: F32 = outputs[-1]
        return last

    def outputs(self, start: F32, cache: KVCache, progress: Progress = SILENT) -> F32:
        """Advance as `advance` does; return the residual streams (T, hidden) of all tokens."""
        found = np.empty_like(start)
        for tokens, outputs in self._stretches(start, cache, progress):
            found[tokens] = outputs
        return found

    def _stretches(
        self, start: F32, cache: KVCache, progress: Progress
    ) -> Iterator[tuple[slice, F32]]:
        """Which tokens went through together, and their outputs, overwritten by the next ones'."""
        tokens = len(start)
        note_compilation(progress)
        calls = -(-tokens // min(CHUNK, cache.most))
        # An interrupt must leave the cache as it was, even where windows have moved.
        branch = cache.branch()
        branch.check(tokens)
        buffers = PromptBuffers(
            self._program, -(-tokens // calls), cache.length + tokens, self._team.threads,
            coded=cache.bits > 0,
        )  # fmt: skip
        states = StateBuffers(tuple(self._program.source.states))
        for i in range(calls):
            part = slice(tokens * i // calls, tokens * (i + 1) // calls)
            self._run(start[part], branch, buffers, states)
            yield part, buffers.outputs(part.stop - part.start)
        cache.adopt(branch)

    def _run(
        self, start: F32, cache: KVCache, buffers: PromptBuffers, states: StateBuffers
    ) -> None:
        """Take tokens that follow those in the cache through all layers."""
        source, tokens = self._program.source, len(start)
        cache.reserve(tokens)
        positions = np.arange(cache.length, cache.length + tokens)
        passing = Passing(
            buffers.begin(start), np.stack([np.zeros_like(positions), positions], axis=1),
            source.cached(cache).rows, states.addresses(cache),
            source.angles(positions, cache.max_length),
        )  # fmt: skip
        run_stages(self._program, self._team, buffers, passing)
        states.advance(cache, tokens)
