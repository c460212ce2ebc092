"""Memory of one prompt: what threads share, and what each has for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.nn.cache import KVCache
from lrc.nn.engine.decode_program import Config
from lrc.nn.engine.prompt_program import PromptProgram
from lrc_kernels.cpu.dot import panels
from lrc_kernels.cpu.engine import prompt, prompt_parts
from lrc_kernels.cpu.transform.activations import GROUP
from lrc_kernels.simd.lanes import LANES
from lrc_kernels.simd.panels import COLUMNS

F32 = NDArray[np.float32]


class PromptBuffers:
    """The cache and the buffers that the addresses handed to compiled code lead to.

    Parameters
    ----------
    program : PromptProgram
    cache : KVCache
    most : int
        Tokens that go through the layers together.
    tokens : int
        Tokens of the whole prompt, behind those in the cache.
    threads : int
    """

    def __init__(
        self, program: PromptProgram, cache: KVCache, most: int, tokens: int, threads: int
    ) -> None:
        self._config, self._highest = program.config, program.highest
        self._cache = cache
        self._padded = panels.padded_tokens(most)
        self._kept: list[NDArray[Any]] = []
        self._hidden = np.empty((most, self._config.hidden), np.float32)
        self.shared = self._make_shared(self._config, most)
        pairs = zip(cache.keys, cache.values, strict=True)
        self.caches = np.array([(k.ctypes.data, v.ctypes.data) for k, v in pairs], np.int64)
        widest = -(-max(_inputs(self._config)) // COLUMNS) * COLUMNS
        lengths = {
            prompt.X: widest, prompt.Z: widest, prompt.WORK: widest, prompt.GATE: widest,
            prompt.UP: widest, prompt.PANEL: panels.PANEL_BYTES // 4,
            prompt.TOTALS: panels.TOTAL_BYTES // 4 * self._padded,
            prompt.SCORES: LANES * (cache.length + tokens + self._config.head_dim + 1),
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
        return shared

    def begin(self, start: F32, position: int) -> NDArray[np.int64]:
        """Put tokens in place, the first of them at ``position``; return a call's sizes."""
        self._hidden[: len(start)] = start
        c, p = self._config, prompt
        sizes = {
            p.HIDDEN: c.hidden, p.WIDE: c.intermediate, p.HEADS: c.heads,
            p.KV_HEADS: c.kv_heads, p.HEAD_DIM: c.head_dim, p.LAYERS: c.layers,
            p.CAPACITY: self._cache.max_length, p.TOKENS: len(start), p.POSITION: position,
            p.ROOM: self._padded, p.HIGHEST: self._highest,
        }  # fmt: skip
        return np.array([sizes[i] for i in range(p.SIZES)], np.int64)

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
