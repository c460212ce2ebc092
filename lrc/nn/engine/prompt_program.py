"""A Llama model as the prompt kernels read it: made once, read by any number of engines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrc.codebooks.base import EngineRow
from lrc.nn.engine.decode_program import KEYS, NORMS, SITES, Block, Config
from lrc.nn.engine.layout import Layout
from lrc.nn.linear import Linear
from lrc.nn.packed import PackedLinear
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.engine import prompt, prompt_parts
from lrc_kernels.simd.paths import path


class PromptProgram:
    """Every matrix and norm of a model as rows of numbers and addresses; never written to.

    Parameters
    ----------
    config : Config
    blocks : sequence of Block
        On packed linears whose codes the prompt kernels know.
    """

    def __init__(self, config: Config, blocks: Sequence[Block]) -> None:
        self.config, self._layout = config, Layout()
        extra: list[list[int]] = []
        for block in blocks:
            linears = [block.linears[key] for key in KEYS]
            for start, stop in SITES:
                self._layout.add_site(linears[start:stop])
            extra += [self._extra(linear) for linear in linears]
        self.mats, self.nums = self._layout.tables()
        self.extra = np.array(extra, np.int64).reshape(-1, prompt_parts.EXTRAS)
        self._set_slots()
        self.highest = int(self.mats[:, product.RANK].max(initial=0))
        norms = [block.norms[name] for block in blocks for name in NORMS]
        self.norms = np.array([self._layout.address(w.astype(np.float32)) for w in norms])

    def _extra(self, linear: Linear) -> list[int]:
        """The row of `prompt_parts.EXTRAS` of one matrix, but for its slot."""
        parts = _rows(linear)
        if parts is None:
            raise TypeError(f"a {type(linear).__name__} has no codes for the prompt kernels")
        row = [0] * prompt_parts.EXTRAS
        for part in parts:
            for place, value in part.integers.items():
                row[place] = value if isinstance(value, int) else self._layout.field(value)
        return row

    def _set_slots(self) -> None:
        """Matrices that share an input share the slot of the first of them."""
        for k, mat in enumerate(self.mats):
            place = k % prompt.PER_LAYER
            first = next(start for start, stop in SITES if start <= place < stop)
            slot = place - first
            if mat[product.SHARED]:
                slot = int(self.extra[k - 1, prompt_parts.SLOT])
            self.extra[k, prompt_parts.SLOT] = slot


def prompt_program_for(config: Config, blocks: Sequence[Block]) -> PromptProgram | None:
    """A program where the kernels know all codes; None where BLAS is the better way."""
    known = all(_rows(f) is not None for block in blocks for f in block.linears.values())
    return PromptProgram(config, blocks) if known and path() != "generic" else None


def _rows(linear: Linear) -> list[EngineRow] | None:
    """What the parts of a layer tell the kernels; None for a layer that they do not know."""
    if not isinstance(linear, PackedLinear):
        return None
    rows = [term.prompt_row() for term in linear.matrix.terms]
    known = [row for row in rows if row is not None]
    has_codes = any(prompt_parts.UNITS in row.integers for row in known)
    return known if has_codes and len(known) == len(rows) else None
