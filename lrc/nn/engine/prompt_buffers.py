"""Memory of tokens on their way: what threads share, and what each has for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.nn.engine.prompt_program import PromptProgram
from lrc.nn.ops import STREAM
from lrc_kernels.cpu.dot import product, weight_panels
from lrc_kernels.cpu.engine import prompt, prompt_parts
from lrc_kernels.cpu.transform.activations import GROUP
from lrc_kernels.simd.lanes import LANES
from lrc_kernels.simd.weight_panels import COLUMNS

F32 = NDArray[np.float32]


class PromptBuffers:
    """The buffers that the addresses handed to compiled code lead to.

    Parameters
    ----------
    program : PromptProgram
    most : int
        Tokens that go through the layers together.
    reach : int
        Tokens of the longest text, these included.
    threads : int
    coded : bool
        Whether the keys and values of a text, which all tokens are of, have to be decoded.

    Attributes
    ----------
    most, reach
        As given.
    addresses, strides, shared
        As `lrc_kernels.cpu.engine.prompt` wants them.
    """

    def __init__(
        self, program: PromptProgram, most: int, reach: int, threads: int, *, coded: bool = False
    ) -> None:
        self.most, self.reach = most, reach
        self._program = program
        self._padded = weight_panels.padded_tokens(most)
        self._kept: list[NDArray[Any]] = []
        self._rows: dict[str, F32] = {}
        self.shared = self._make_shared(most)
        self.addresses = np.zeros((threads, prompt.BUFFERS + len(program.values)), np.int64)
        self.strides = np.zeros(self.addresses.shape[1], np.int64)
        mats = program.mats[:, [product.ROWS, product.COLUMNS]]
        decoded = 2 * reach * program.source.head_dim if coded else 0
        lengths = {
            prompt.Z: _whole(int(mats.max())),
            prompt.WORK: max(
                _whole(int(mats.max())), program.source.scanned, 2 * program.source.head_dim
            ),
            prompt.WEIGHT_PANEL: weight_panels.WEIGHT_PANEL_BYTES // 4,
            prompt.TOTALS: weight_panels.TOTAL_BYTES // 4 * self._padded,
            prompt.SCORES: LANES * (reach + program.source.head_dim + 1) + decoded,
        }  # fmt: skip
        for place, length in lengths.items():
            self.addresses[:, place] = [self._new(length) for _ in range(threads)]
        for place, name in enumerate(program.values, prompt.BUFFERS):
            width = program.source.widths[name]
            if name in program.kept:
                # Vectors of 16 are written to the end of the last one.
                self.strides[place] = 4 * (-(-width // 16) * 16)
                rows = np.empty((most, int(self.strides[place]) // 4), np.float32)
                self.addresses[:, place] = rows.ctypes.data
                self._rows[name] = rows
            else:
                self.addresses[:, place] = [self._new(_whole(width)) for _ in range(threads)]
        self._hidden = self._rows[STREAM][:, : program.source.hidden]

    def _make_shared(self, tokens: int) -> NDArray[np.int64]:
        """Quantized inputs, and products, of as many matrices as share an input."""
        program = self._program
        shared = np.zeros((prompt_parts.SHARED_ROWS, program.source.together), np.int64)
        for i in range(shared.shape[1]):
            shapes = [site[i].shape for site in program.sites if len(site) > i]
            inputs, rows = max((n for _, n in shapes), default=0), max(m for m, _ in shapes)
            size = -(-inputs // COLUMNS) * COLUMNS * self._padded
            shared[prompt_parts.WORDS, i] = self._new(size // 2)
            shared[prompt_parts.SCALES, i] = self._new(size // GROUP)
            shared[prompt_parts.PARTS, i] = self._new(program.highest * tokens)
            shared[prompt_parts.PRODUCTS, i] = self._new(rows * tokens)
        return shared

    def begin(self, start: F32, *, layers: int = 0, apart: bool = False) -> NDArray[np.int64]:
        """Put tokens in place; return a call's sizes.

        ``apart``: each is of a sequence of its own, whose cache has so many ``layers``.
        """
        self._hidden[: len(start)] = start
        p = prompt
        sizes = {
            p.TOKENS: len(start), p.ACTIVATIONS: self._padded, p.HIGHEST: self._program.highest,
            p.LAYERS: layers, p.APART: apart,
        }  # fmt: skip
        return np.array([sizes[i] for i in range(p.SIZES)], np.int64)

    def outputs(self, tokens: int) -> F32:
        """What has become of so many tokens: (tokens, hidden), overwritten by the next ones."""
        return self._hidden[:tokens]

    def _new(self, length: int) -> int:
        """Address of f32 (length,), beginning on a cache line."""
        raw = np.empty(4 * length + 128, np.uint8)
        self._kept.append(raw)
        return int(raw.ctypes.data + -raw.ctypes.data % 64)


def _whole(width: int) -> int:
    """Room for ``width`` numbers, in whole vectors and whole groups of activations."""
    return -(-width // COLUMNS) * COLUMNS
