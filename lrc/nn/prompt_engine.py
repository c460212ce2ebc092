"""The prompt engine: many tokens through every block in one compiled call a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.formats.codec import TRELLIS
from lrc.nn.cache import KVCache
from lrc.nn.engine import KEYS, Block, Config
from lrc.nn.engine_layout import Layout
from lrc.nn.linear import Linear
from lrc.nn.packed import PackedLinear
from lrc.nn.rope import rope_tables
from lrc.progress import SILENT, Progress
from lrc_kernels.cpu import panels, product, prompt, prompt_parts
from lrc_kernels.cpu.activations import GROUP
from lrc_kernels.simd_lanes import LANES
from lrc_kernels.simd_panels import COLUMNS
from lrc_kernels.simd_paths import path
from lrc_kernels.trellis_code import UNIT

F32 = NDArray[np.float32]

_SITES = ((0, 3), (3, 4), (4, 6), (6, 7))
_NORMS = ("input_layernorm", "post_attention_layernorm")
#: Most tokens of one call: more need more memory, fewer decode the weights more often.
CHUNK = 512


class PromptEngine:
    """Works through prompts on 15-bit activations; the same bits for any number of threads.

    Parameters
    ----------
    config : Config
    blocks : sequence of Block
        On packed linears, all of them trellises.
    threads : int
        Threads that share the work.
    """

    def __init__(self, config: Config, blocks: Sequence[Block], threads: int = 1) -> None:
        if threads < 1:
            raise SpecError(f"threads={threads} must be at least 1")
        self._config, self._threads = config, threads
        self._layout = Layout()
        extra: list[list[int]] = []
        for block in blocks:
            linears = [block.linears[key] for key in KEYS]
            for start, stop in _SITES:
                self._layout.add_site(linears[start:stop])
            extra += [self._extra(linear) for linear in linears]
        self._mats, self._nums = self._layout.tables()
        self._extra_rows = np.array(extra, np.int64).reshape(-1, prompt_parts.EXTRAS)
        self._set_slots()
        self._highest = int(self._mats[:, product.RANK].max(initial=0))
        norms = [block.norms[name] for block in blocks for name in _NORMS]
        self._norms = np.array([self._layout.address(w.astype(np.float32)) for w in norms])
        self._pool = ThreadPoolExecutor(threads - 1, "lrc-prompt") if threads > 1 else None

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
        if cache.length + tokens > cache.max_length:
            raise SpecError(
                f"the cache holds {cache.max_length} tokens and {cache.length + tokens} are "
                "needed; make it longer or the text shorter"
            )
        if cache.keys[0].shape[0] != 1:
            raise SpecError(f"the cache is for {cache.keys[0].shape[0]} sequences; a prompt has 1")
        if not prompt.is_compiled():
            progress.note("compiling the kernels for prompts; this happens once and takes seconds")
        calls = -(-tokens // CHUNK)
        seen = cache.length + tokens
        room = _Room(self._config, -(-tokens // calls), seen, self._highest, self._threads)
        for i in range(calls):
            part = start[tokens * i // calls : tokens * (i + 1) // calls]
            self._run(part, cache, room)
        return room.last(len(part))

    def _run(self, start: F32, cache: KVCache, room: _Room) -> None:
        tokens = len(start)
        cos, sin = rope_tables(self._config.rope, np.arange(cache.length, cache.length + tokens))
        pairs = zip(cache.keys, cache.values, strict=True)
        caches = np.array([(k.ctypes.data, v.ctypes.data) for k, v in pairs], np.int64)
        common = (
            self._mats, self._nums, self._extra_rows, self._norms,
            room.sizes(tokens, cache), np.float32(self._config.eps), room.rooms,
            room.begin(start), caches, cos.ctypes.data, sin.ctypes.data,
        )  # fmt: skip
        run: Callable[..., None] = prompt.run_prompt
        others = [
            self._pool.submit(run, *common, i)
            for i in range(1, self._threads)
            if self._pool is not None
        ]
        run(*common, 0)
        for other in others:
            other.result()
        cache.advance(tokens)

    def _extra(self, linear: Linear) -> list[int]:
        """The row of `prompt_parts.EXTRAS` of one matrix, but for its slot."""
        if not isinstance(linear, PackedLinear):
            raise TypeError(f"a {type(linear).__name__} is no trellis")
        matrix = linear.matrix
        row = [0] * prompt_parts.EXTRAS
        scales = np.broadcast_to(matrix.scales[:, 0].astype(np.float32), matrix.shape[:1])
        units = scales * np.float32(matrix.gain / UNIT)
        row[prompt_parts.UNITS] = self._layout.address(units)
        if linear.factors is not None:
            left, right = linear.factors
            row[prompt_parts.LEFT] = self._layout.address(left)
            row[prompt_parts.RIGHT] = self._layout.address(right)
        return row

    def _set_slots(self) -> None:
        """Matrices that share an input share the slot of the first of them."""
        for k, mat in enumerate(self._mats):
            place = k % prompt.PER_LAYER
            first = next(start for start, stop in _SITES if start <= place < stop)
            slot = place - first
            if mat[product.SHARED]:
                slot = int(self._extra_rows[k - 1, prompt_parts.SLOT])
            self._extra_rows[k, prompt_parts.SLOT] = slot


class _Room:
    """Memory of one prompt: what threads share, and what each has for itself."""

    def __init__(self, config: Config, tokens: int, seen: int, highest: int, threads: int) -> None:
        self._config, self._highest = config, highest
        self._padded = panels.padded_tokens(tokens)
        self._kept: list[NDArray[Any]] = []
        self._hidden = np.empty((tokens, config.hidden), np.float32)
        self._counters = np.zeros(2 * prompt.PHASES * config.layers + 2, np.int64)
        self._shared = self._make_shared(config, tokens)
        widest = -(-max(_inputs(config)) // COLUMNS) * COLUMNS
        lengths = {
            prompt.X: widest, prompt.Z: widest, prompt.WORK: widest, prompt.GATE: widest,
            prompt.UP: widest, prompt.PANEL: panels.PANEL_BYTES // 4,
            prompt.TOTALS: panels.TOTAL_BYTES // 4 * self._padded,
            prompt.SCORES: LANES * (seen + config.head_dim + 1),
        }  # fmt: skip
        self.rooms = np.zeros((threads, prompt.ROOMS), np.int64)
        for thread in range(threads):
            for place, length in lengths.items():
                self.rooms[thread, place] = self._new(length)

    def _make_shared(self, c: Config, tokens: int) -> NDArray[np.int64]:
        shared = np.zeros(prompt.SHARED_ROOMS, np.int64)
        queries, inputs = c.heads * c.head_dim, _inputs(c)
        # Sites of several matrices are those after a norm.
        for i, n in enumerate((max(inputs), c.hidden, c.hidden)):
            blocks = -(-n // COLUMNS)
            size = blocks * COLUMNS * self._padded
            shared[prompt_parts.WORDS + i] = self._new(size // 2)
            shared[prompt_parts.SCALES + i] = self._new(size // GROUP)
            shared[prompt_parts.PARTS + i] = self._new(self._highest * tokens)
        for i, m in enumerate((max(inputs), max(c.intermediate, queries), queries)):
            shared[prompt_parts.PRODUCTS + i] = self._new(m * tokens)
        shared[prompt.QUERIES] = self._new(queries * tokens)
        shared[prompt.MIXED] = self._new(queries * tokens)
        shared[prompt.H] = self._hidden.ctypes.data
        shared[prompt.CLAIMS] = self._counters.ctypes.data
        return shared

    def sizes(self, tokens: int, cache: KVCache) -> NDArray[np.int64]:
        """The numbers that one call needs."""
        c, p = self._config, prompt
        sizes = {
            p.HIDDEN: c.hidden, p.WIDE: c.intermediate, p.HEADS: c.heads,
            p.KV_HEADS: c.kv_heads, p.HEAD_DIM: c.head_dim, p.LAYERS: c.layers,
            p.CAPACITY: cache.max_length, p.TOKENS: tokens, p.POSITION: cache.length,
            p.ROOM: self._padded, p.HIGHEST: self._highest,
        }  # fmt: skip
        return np.array([sizes[i] for i in range(p.SIZES)], np.int64)

    def begin(self, start: F32) -> NDArray[np.int64]:
        """Addresses that threads share, with new tokens in place and counters at zero."""
        self._hidden[: len(start)] = start
        self._counters[:] = 0
        return self._shared

    def last(self, tokens: int) -> F32:
        """Output of the last of the tokens."""
        row: F32 = self._hidden[tokens - 1]
        return row

    def _new(self, length: int) -> int:
        """Address of f32 (length,), beginning on a cache line."""
        raw = np.empty(4 * length + 128, np.uint8)
        self._kept.append(raw)
        return int(raw.ctypes.data + -raw.ctypes.data % 64)


def _inputs(c: Config) -> tuple[int, int, int]:
    """Widths of what matrices read; their outputs are no wider."""
    return c.hidden, c.heads * c.head_dim, c.intermediate


def prompt_engine_for(config: Config, blocks: Sequence[Block], threads: int) -> PromptEngine | None:
    """An engine where every matrix is a trellis; None where BLAS is the better way."""
    matrices = (f for block in blocks for f in block.linears.values())
    known = all(isinstance(f, PackedLinear) and f.matrix.codebook in TRELLIS for f in matrices)
    return PromptEngine(config, blocks, threads) if known and path() != "generic" else None
