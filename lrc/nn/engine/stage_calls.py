"""The stages of a program in compiled calls, some of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.nn.engine.program import Angles
from lrc.nn.engine.prompt_buffers import PromptBuffers
from lrc.nn.engine.prompt_program import PromptProgram
from lrc.nn.engine.team import Team
from lrc_kernels.cpu.engine import prompt

#: Tokens times stages of one compiled call, in which no interrupt is heard: some 10 are a layer.
CALL = 5120

I64 = NDArray[np.int64]


class Passing(NamedTuple):
    """Tokens on their way, as `lrc_kernels.cpu.engine.prompt` wants them.

    Attributes
    ----------
    sizes
        Of `PromptBuffers.begin`.
    places : (tokens, 2) int64
        Number of each one's sequence, and its position there.
    cached : (sequences * layers, `table.CACHE`) int64
    states : (states, 2) int64
    angles : Angles
        Of each token.
    """

    sizes: I64
    places: I64
    cached: I64
    states: I64
    angles: Angles


def note_compilation(progress: Progress) -> None:
    """Note that the kernels have to be compiled, if they have to be."""
    if not prompt.is_compiled():
        progress.note("compiling the kernels for prompts; it takes up to a minute")


def run_stages(
    program: PromptProgram, team: Team, buffers: PromptBuffers, passing: Passing
) -> None:
    """Take tokens through all layers."""
    tokens = len(passing.places)
    lists = np.zeros((program.experts, tokens), np.int32)
    counts = np.zeros(program.experts, np.int64)
    run: Callable[..., bool] = prompt.run_prompt

    def task(first: int, stop: int, place: I64, thread: int, threads: int) -> bool:
        return run(
            program.mats, program.nums, program.extra, program.ops, program.numbers,
            program.stages, passing.sizes, passing.places, buffers.addresses, buffers.strides,
            buffers.shared, lists, counts, passing.cached, passing.states,
            passing.angles.addresses, first, stop, place.ctypes.data, thread, threads,
        )  # fmt: skip

    end, step = len(program.stages), -(-CALL // tokens)
    for first in range(0, end, step):
        stop = min(first + step, end)
        # An interrupt of the compiler ends it, where it runs in this thread alone.
        threads = team.threads if prompt.is_ready() else 1
        team.call(partial(task, first, stop), threads, stop - first)
