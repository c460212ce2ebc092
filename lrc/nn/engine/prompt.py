"""The prompt engine: many tokens through every block, some layers in a compiled call a thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.nn.cache import KVCache
from lrc.nn.engine.prompt_buffers import PromptBuffers
from lrc.nn.engine.prompt_program import PromptProgram
from lrc.nn.engine.team import Team
from lrc_kernels.cpu.engine import prompt

F32 = NDArray[np.float32]

#: Most tokens that go through the layers together: more need more memory, fewer decode the
#: weights more often.
CHUNK = 512
#: Tokens times stages of one compiled call, in which no interrupt is heard: some 10 are a layer.
CALL = 5120


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
        tokens = len(start)
        if not prompt.is_compiled():
            progress.note("compiling the kernels for prompts; it takes up to a few minutes")
        calls = -(-tokens // min(CHUNK, cache.most))
        # An interrupt must leave the cache as it was, even where windows have moved.
        branch = cache.branch()
        branch.check(tokens)
        buffers = PromptBuffers(
            self._program, cache, -(-tokens // calls), tokens, self._team.threads
        )
        for i in range(calls):
            done, end = tokens * i // calls, tokens * (i + 1) // calls
            self._run(start[done:end], branch, buffers)
        cache.adopt(branch)
        return buffers.last(end - done)

    def _run(self, start: F32, cache: KVCache, buffers: PromptBuffers) -> None:
        """Take tokens that follow those in the cache through all layers."""
        program, tokens, position = self._program, len(start), cache.length
        cache.reserve(tokens)
        cached = program.source.cached(cache)
        angles = program.source.angles(np.arange(position, position + tokens), cache.max_length)
        sizes = buffers.begin(start, position)
        states = buffers.states.addresses(cache)
        lists = np.zeros((program.experts, tokens), np.int32)
        counts = np.zeros(program.experts, np.int64)
        run: Callable[..., bool] = prompt.run_prompt

        def task(
            first: int, stop: int, place: NDArray[np.int64], thread: int, threads: int
        ) -> bool:
            return run(
                program.mats, program.nums, program.extra, program.ops, program.numbers,
                program.stages, sizes, buffers.addresses, buffers.strides, buffers.shared,
                lists, counts, cached.rows, states, angles.addresses, first, stop,
                place.ctypes.data, thread, threads,
            )  # fmt: skip

        end, step = len(program.stages), -(-CALL // tokens)
        for first in range(0, end, step):
            stop = min(first + step, end)
            # An interrupt of the compiler ends it, where it runs in this thread alone.
            threads = self._team.threads if prompt.is_ready() else 1
            self._team.call(partial(task, first, stop), threads, stop - first)
        buffers.states.advance(cache, tokens)
