"""The decode engine: one token through every block in one compiled call a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.errors import SpecError
from lrc.nn.cache import KVCache
from lrc.nn.engine.decode_program import Config, DecodeProgram
from lrc.nn.engine.team import Team
from lrc.nn.engine.threads import Pace
from lrc.nn.rope import rope_tables
from lrc_kernels.cpu.dot.product import RANK
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
        At most its threads share a token; see `lrc.nn.engine.threads`.
    """

    def __init__(self, program: DecodeProgram, team: Team) -> None:
        self._program, self._team = program, team
        self._pace = Pace(team.threads)
        self._scratch: _Scratch | None = None

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
        position = cache.length
        cos, sin = rope_tables(program.config.rope, np.array([position]))
        run: Callable[..., bool] = token.run_token

        def share(place: NDArray[np.int64], thread: int, threads: int) -> bool:
            return run(
                program.mats, program.nums, program.norms, scratch.sizes,
                np.float32(program.config.eps), scratch.rooms, scratch.shared, scratch.caches,
                cos.ctypes.data, sin.ctypes.data, position, program.tables, place.ctypes.data,
                thread, threads, head,
            )  # fmt: skip

        if token.is_ready():
            threads = self._pace.choose()
            before = time.perf_counter()
            self._team.call(share, threads)
            self._pace.note(threads, time.perf_counter() - before)
        else:
            # An interrupt of the compiler ends it, where it runs in this thread alone.
            self._team.call(share, 1)
        cache.advance(1)
        return scratch.logits

    def _attached(self, cache: KVCache) -> _Scratch:
        """Buffers for a cache, made anew for every other one; whole or not at all."""
        if cache.length >= cache.max_length:
            raise SpecError(
                f"the cache holds {cache.max_length} tokens and {cache.length + 1} are needed; "
                "make it longer or the text shorter"
            )
        if self._scratch is None or self._scratch.cache is not cache:
            batch = cache.keys[0].shape[0]
            if batch != 1:
                raise SpecError(f"the cache is for {batch} sequences; decoding has 1")
            self._scratch = _Scratch(self._program, cache, self._team.threads)
        return self._scratch


class _Scratch:
    """What threads write while a token passes: a cache, buffers they share, each one's own."""

    def __init__(self, program: DecodeProgram, cache: KVCache, threads: int) -> None:
        c = program.config
        self.cache = cache
        self.start, self.logits = np.zeros(c.hidden, np.float32), np.zeros(c.vocab, np.float32)
        self._kept: list[NDArray[Any]] = []
        pairs = zip(cache.keys, cache.values, strict=True)
        self.caches = np.array([(k.ctypes.data, v.ctypes.data) for k, v in pairs], np.int64)
        widest = activations.padded(max(c.heads * c.head_dim, c.hidden, c.intermediate))
        sizes = {
            token.HIDDEN: c.hidden, token.WIDE: c.intermediate, token.HEADS: c.heads,
            token.KV_HEADS: c.kv_heads, token.HEAD_DIM: c.head_dim, token.LAYERS: c.layers,
            token.WIDTH: widest, token.CAPACITY: cache.max_length,
        }  # fmt: skip
        self.sizes = np.array([sizes[i] for i in range(token.SIZES)], np.int64)
        self.shared = self._make_shared(c)
        lengths: dict[int, int] = dict.fromkeys(range(token.ROOMS), widest)
        lengths[token.ACT] = activations.size(widest) // 4
        lengths[token.T] = int(program.mats[:, RANK].max()) + 16
        lengths[token.SCORES] = cache.max_length + 16
        self.rooms = np.zeros((threads, token.ROOMS), np.int64)
        for thread in range(threads):
            for place, length in lengths.items():
                self.rooms[thread, place] = self._new(length)

    def _make_shared(self, c: Config) -> NDArray[np.int64]:
        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        lengths = {
            token.YQ: queries, token.YK: keys, token.YV: keys, token.MIXED: queries,
            token.YO: c.hidden, token.YG: c.intermediate, token.YU: c.intermediate,
            token.YD: c.hidden,
        }  # fmt: skip
        shared = np.zeros(token.SHARED_ROOMS, np.int64)
        for place, length in lengths.items():
            shared[place] = self._new(length)
        shared[token.START] = self.start.ctypes.data
        shared[token.LOGITS] = self.logits.ctypes.data
        return shared

    def _new(self, length: int) -> int:
        """Address of zeros f32 (length,) that share no cache line with anything else."""
        raw = np.zeros(4 * length + 192, np.uint8)
        self._kept.append(raw)
        return int(raw.ctypes.data + -raw.ctypes.data % 64)


_announced = False


def announce_compilation(progress: Progress) -> None:
    """Note, once a process, that the kernels have to be compiled, if they have to be."""
    global _announced
    if not _announced and not token.is_compiled():
        progress.note("compiling kernels for this machine; it takes up to a few minutes")
    _announced = True
