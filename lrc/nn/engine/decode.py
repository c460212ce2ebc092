"""The decode engine: one token through every block in one compiled call a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.nn.cache import KVCache
from lrc.nn.engine.decode_program import DecodeProgram
from lrc.nn.engine.program import Cached
from lrc.nn.engine.states import StateBuffers
from lrc.nn.engine.team import Team
from lrc.nn.engine.thread_choice import ThreadChoice
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.engine import token
from lrc_kernels.cpu.transform import activations

F32 = NDArray[np.float32]


class DecodeEngine:
    """Decodes token by token on int8 activations; the same bits for any number of threads.

    Parameters
    ----------
    program : DecodeProgram
        Any number of engines may read it at the same time.
    team : Team
        At most its threads share a token; see `lrc.nn.engine.thread_choice`.
    """

    def __init__(self, program: DecodeProgram, team: Team) -> None:
        self._program, self._team = program, team
        self._choice = ThreadChoice(team.threads)
        self._scratch: _Scratch | None = None
        self._mats: NDArray[np.int64] | None = None

    def step(self, start: F32, cache: KVCache, *, head: bool = True) -> F32:
        """Advance by one token.

        Parameters
        ----------
        start : (hidden,) float32
            Embedding of the token.
        cache : KVCache
            Of one sequence; receives the token's keys and values, and counts it.
        head : bool
            Whether logits are wanted.

        Returns
        -------
        (vocab,) float32
            Logits: a view that the next step overwrites; meaningless without ``head``.

        Raises
        ------
        SpecError
            When the cache is full or holds several sequences.
        """
        program, scratch = self._program, self._attached(cache)
        scratch.start[...] = start
        cache.reserve(1)
        position, cached = cache.length, scratch.cached_now()
        states = scratch.states.addresses(cache)
        angles = program.source.angles(np.array([position]), cache.max_length)
        stop = len(program.ops) if head else program.body
        run: Callable[..., bool] = token.run_token
        if self._mats is None:
            self._mats = product.linked(program.mats)
        mats = self._mats

        def task(place: NDArray[np.int64], thread: int, threads: int) -> bool:
            return run(
                mats, program.nums, program.ops, program.numbers, scratch.width,
                scratch.addresses, cached.rows, states, angles.addresses, position, program.tables,
                place.ctypes.data, thread, threads, stop,
            )  # fmt: skip

        if token.is_ready():
            threads = self._choice.choose()
            before = time.perf_counter()
            self._team.call(task, threads)
            self._choice.note(threads, time.perf_counter() - before)
        else:
            # An interrupt of the compiler ends it, where it runs in this thread alone.
            self._team.call(task, 1)
        scratch.states.advance(cache)
        return scratch.logits

    def _attached(self, cache: KVCache) -> _Scratch:
        """Buffers for a cache, made anew for every other one; whole or not at all."""
        if self._scratch is None or self._scratch.cache is not cache:
            self._scratch = _Scratch(self._program, cache, self._team.threads)
        return self._scratch


class _Scratch:
    """What threads write while a token passes: a cache, buffers they share, each one's own."""

    def __init__(self, program: DecodeProgram, cache: KVCache, threads: int) -> None:
        self.cache, self._source = cache, program.source
        self._cached = program.source.cached(cache)
        self.states = StateBuffers(tuple(program.source.states))
        self._kept: list[NDArray[Any]] = []
        self.width = widest = activations.padded(program.widest)
        lengths = {
            token.Z: widest,
            token.WORK: max(widest, program.source.scanned, 2 * program.source.head_dim),
            token.ACT: activations.size(widest) // 4,
            token.T: int(program.mats[:, product.RANK].max()) + 16,
            token.SCORES: cache.max_length + 16,
        }  # fmt: skip
        self.addresses = np.zeros((threads, token.BUFFERS + len(program.buffers)), np.int64)
        for place, length in lengths.items():
            self._make(place, length, shared=False)
        first: dict[int, F32] = {}
        for place, buffer in enumerate(program.buffers, token.BUFFERS):
            length = activations.padded(buffer.width)
            first[place] = self._make(place, length, shared=buffer.shared)
        self.start = first[program.start][: program.source.hidden]
        self.logits = first[program.logits][: program.vocab]

    def cached_now(self) -> Cached:
        """What the cache keeps now."""
        self._cached = self._source.cached(self.cache, self._cached)
        return self._cached

    def _make(self, place: int, length: int, *, shared: bool) -> F32:
        """Make buffer number ``place``, one or one a thread; return that of thread 0."""
        threads = len(self.addresses)
        made = [self._new(length) for _ in range(1 if shared else threads)]
        self.addresses[:, place] = [array.ctypes.data for array in made]
        return made[0]

    def _new(self, length: int) -> F32:
        """Zeros f32 (length,) that share no cache line with anything else."""
        raw = np.zeros(4 * length + 192, np.uint8)
        self._kept.append(raw)
        first = -raw.ctypes.data % 64
        return raw[first : first + 4 * length].view(np.float32)


_announced = False


def announce_compilation(progress: Progress) -> None:
    """Note, once a process, that the kernels have to be compiled, if they have to be."""
    global _announced
    if not _announced and not token.is_compiled():
        progress.note("compiling kernels for this machine; it takes up to a minute")
    _announced = True
