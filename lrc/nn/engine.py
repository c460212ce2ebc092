"""The decode engine: one token through every block in one compiled call a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.nn.cache import KVCache
from lrc.nn.engine_layout import Layout
from lrc.nn.engine_pace import Pace
from lrc.nn.linear import DenseLinear, Linear
from lrc.nn.packed import PackedLinear
from lrc.nn.rope import Rope, rope_tables
from lrc.progress import Progress
from lrc_kernels.cpu import activations, token
from lrc_kernels.cpu.e8p_tables import build_tables
from lrc_kernels.cpu.product import RANK

F32 = NDArray[np.float32]
KEYS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_SITES = ((0, 3), (3, 4), (4, 6), (6, 7))


class Config(Protocol):
    """The constants of a Llama model that decoding needs."""

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def intermediate(self) -> int:
        """Width between gate and down."""
        ...

    @property
    def layers(self) -> int:
        """Number of blocks."""
        ...

    @property
    def heads(self) -> int:
        """Query heads."""
        ...

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        ...

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        ...

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        ...

    @property
    def eps(self) -> float:
        """Added to mean squares."""
        ...

    @property
    def rope(self) -> Rope:
        """Rotary frequencies."""
        ...


class Block(Protocol):
    """One decoder block."""

    @property
    def linears(self) -> Mapping[str, Linear]:
        """Linears by checkpoint key."""
        ...

    @property
    def norms(self) -> Mapping[str, F32]:
        """Norm weights by checkpoint key."""
        ...


class DecodeEngine:
    """Decodes token by token on int8 activations; the same bits for any number of threads.

    Parameters
    ----------
    config : Config
    blocks : sequence of Block
        On packed or dense linears; their arrays are used where they are.
    final_norm : (hidden,) float32
    head : Linear
        (vocab, hidden).
    threads : int
        Most threads that share a token; see `lrc.nn.engine_pace`.
    """

    def __init__(
        self,
        config: Config,
        blocks: Sequence[Block],
        final_norm: F32,
        head: Linear,
        threads: int = 1,
    ) -> None:
        if threads < 1:
            raise SpecError(f"threads={threads} must be at least 1")
        self._config, self._threads = config, threads
        self._layout = Layout()
        for block in blocks:
            linears = [block.linears[key] for key in KEYS]
            for start, stop in _SITES:
                self._layout.add_site(linears[start:stop])
        self._layout.add_site([head])
        self._mats, self._nums = self._layout.tables()
        names = ("input_layernorm", "post_attention_layernorm")
        norms = [block.norms[name] for block in blocks for name in names]
        self._norms = np.array(
            [self._layout.address(w.astype(np.float32)) for w in (*norms, final_norm)], np.int64
        )
        self._tables = self._layout.address(build_tables())
        self._pool = ThreadPoolExecutor(threads - 1, "lrc-decode") if threads > 1 else None
        self._pace = Pace(threads)
        self._arrived = 0
        self._cache: KVCache | None = None
        self._capacity = 0
        self._make_shared()

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
        self._attach(cache)
        self._start[...] = start
        cos, sin = rope_tables(self._config.rope, np.array([cache.length]))
        threads = self._pace.choose()
        common = (
            self._mats, self._nums, self._norms, self._sizes, np.float32(self._config.eps),
            self._rooms, self._shared, self._caches, cos.ctypes.data, sin.ctypes.data,
            cache.length, self._tables, self._arrived + threads,
        )  # fmt: skip
        run: Callable[..., None] = token.run_token
        before = time.perf_counter()
        others = [
            self._pool.submit(run, *common, i, threads, head)
            for i in range(1, threads)
            if self._pool is not None
        ]
        run(*common, 0, threads, head)
        for other in others:
            other.result()
        self._pace.note(threads, time.perf_counter() - before)
        if threads > 1:
            self._arrived += threads * (token.MEETINGS * self._config.layers + 1)
        cache.advance(1)
        return self._logits

    def _attach(self, cache: KVCache) -> None:
        """Note where the cache lies, and make room for as many scores."""
        if cache.length >= cache.max_length:
            raise SpecError(
                f"the cache holds {cache.max_length} tokens and {cache.length + 1} are needed; "
                "make it longer or the text shorter"
            )
        if self._cache is cache:
            return
        if cache.keys[0].shape[0] != 1:
            raise SpecError(f"the cache is for {cache.keys[0].shape[0]} sequences; decoding has 1")
        pairs = zip(cache.keys, cache.values, strict=True)
        self._caches = np.array([(k.ctypes.data, v.ctypes.data) for k, v in pairs], np.int64)
        self._cache = cache
        self._sizes[token.CAPACITY] = cache.max_length
        if cache.max_length > self._capacity:
            self._capacity = cache.max_length
            self._make_rooms()

    def _make_shared(self) -> None:
        c = self._config
        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        self._start = np.zeros(c.hidden, np.float32)
        self._logits = np.zeros(c.vocab, np.float32)
        lengths = {
            token.YQ: queries, token.YK: keys, token.YV: keys, token.MIXED: queries,
            token.YO: c.hidden, token.YG: c.intermediate, token.YU: c.intermediate,
            token.YD: c.hidden, token.COUNTER: 16,
        }  # fmt: skip
        self._shared = np.zeros(token.SHARED_ROOMS, np.int64)
        for place, length in lengths.items():
            self._shared[place] = self._layout.address(_aligned(length))
        self._shared[token.START] = self._start.ctypes.data
        self._shared[token.LOGITS] = self._logits.ctypes.data
        self._widest = max(queries, c.hidden, c.intermediate)
        width = activations.padded(self._widest)
        sizes = dict.fromkeys(range(token.SIZES), 0)
        sizes |= {
            token.HIDDEN: c.hidden, token.WIDE: c.intermediate, token.HEADS: c.heads,
            token.KV_HEADS: c.kv_heads, token.HEAD_DIM: c.head_dim, token.LAYERS: c.layers,
            token.WIDTH: width,
        }  # fmt: skip
        self._sizes = np.array([sizes[i] for i in range(token.SIZES)], np.int64)

    def _make_rooms(self) -> None:
        """Each thread's own memory; in one array, aligned, so that no cache line is shared."""
        width = activations.padded(self._widest)
        lengths: dict[int, int] = dict.fromkeys(range(token.ROOMS), width)
        lengths[token.ACT] = activations.size(width) // 4
        lengths[token.T] = int(self._mats[:, RANK].max()) + 16
        lengths[token.SCORES] = self._capacity + 16
        self._own: list[Any] = []
        self._rooms = np.zeros((self._threads, token.ROOMS), np.int64)
        for thread in range(self._threads):
            for place, length in lengths.items():
                room = _aligned(length)
                self._own.append(room)
                self._rooms[thread, place] = room.ctypes.data


def _aligned(length: int) -> F32:
    """Zeros f32 (length,) that begin and end on whole cache lines."""
    raw = np.zeros(4 * length + 192, np.uint8)
    skip = -raw.ctypes.data % 64
    lined: F32 = raw[skip : skip + -(-4 * length // 64) * 64].view(np.float32)
    return lined


def engine_for(
    config: Config, blocks: Sequence[Block], final_norm: F32, head: Linear, threads: int
) -> DecodeEngine | None:
    """An engine where the blocks are packed; None where the plain path is the better one."""
    packed = all(isinstance(f, PackedLinear) for block in blocks for f in block.linears.values())
    known = isinstance(head, (PackedLinear, DenseLinear))
    return DecodeEngine(config, blocks, final_norm, head, threads) if packed and known else None


_announced = False


def announce_compilation(progress: Progress) -> None:
    """Note, once a process, that the kernels have to be compiled, if they have to be."""
    global _announced
    if not _announced and not token.is_compiled():
        progress.note("compiling kernels for this machine; this happens once and takes seconds")
    _announced = True
