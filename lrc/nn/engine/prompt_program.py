"""A model as the prompt kernels read it: made once, read by any number of engines."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.base import EngineRow
from lrc.nn.engine.program import Program
from lrc.nn.engine.rows import Row
from lrc.nn.engine.stages import Stages
from lrc.nn.engine.state_rows import state_row
from lrc.nn.engine.token_rules import TOKEN_RULES
from lrc.nn.linear import Linear
from lrc.nn.ops import STREAM, Attend, Multiply
from lrc.nn.packed import PackedLinear
from lrc.nn.routing import Combine, Dispatch, Route
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Convolve, SelectiveScan
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.engine import prompt, prompt_parts, table
from lrc_kernels.simd.paths import path

#: Operations that the loop for prompts has beside those on one token alone.
_KNOWN = (Multiply, Attend, Route, Dispatch, Combine, Convolve, SelectiveScan, SsdScan)


class PromptProgram:
    """The stages of a prompt, their buffers, and the matrices they read; never written to.

    Parameters
    ----------
    source : Program
        On packed linears whose codes the prompt kernels know.

    Attributes
    ----------
    ops, numbers, stages
        Of `lrc_kernels.cpu.engine.prompt`.
    values
        Names of the buffers that the table names, from number `prompt.BUFFERS` on.
    kept
        Those of which every token has its own.
    experts
        How many all blocks have.
    """

    def __init__(self, source: Program) -> None:
        self.source = source
        body = source.ops[: source.body]
        self.sites = [op.linears for op in body if isinstance(op, Multiply)]
        self._extra = [self._extra_row(linear) for site in self.sites for linear in site]
        count = len(self._extra)
        self.mats, self.nums = source.mats[:count], source.nums[:count]
        self._set_slots()
        self._extra_rows = np.array(self._extra, np.int64).reshape(-1, prompt_parts.EXTRAS)
        self.highest = int(self.mats[:, product.RANK].max(initial=0))
        self.experts = self._first_expert = 0
        stages = Stages(STREAM)
        for index in range(source.body):
            self._lower(index, stages)
        self.values, self.kept = stages.values(), stages.kept
        places = {name: prompt.BUFFERS + i for i, name in enumerate(self.values)}
        self.ops, self.numbers, self.stages = stages.tables(places)

    @cached_property
    def extra(self) -> NDArray[np.int64]:
        """Rows of `prompt_parts`; the kernels that they name are compiled the first time."""
        return prompt_parts.linked(self.mats, self._extra_rows)

    def _lower(self, index: int, stages: Stages) -> None:
        """Add the rows of operation ``index``."""
        op = self.source.ops[index]
        if isinstance(op, Multiply):
            first, count = self.source.first_matrix(index), len(op.linears)
            site = {"matrix": first, "count": count}
            stages.token(Row(table.ENTER, op.source, columns=site))
            stages.alone(Row(table.MULTIPLY, columns=site))
            for i, name in enumerate(op.targets):
                stages.token(Row(table.LEAVE, target=name, columns={"matrix": first, "count": i}))
        elif isinstance(op, Attend):
            heads = {"kv_heads": op.kv_heads, "width": op.head_dim, "address": op.layer}
            for i, name in enumerate((op.keys, op.values)):
                stages.token(Row(table.KEEP, name, columns=heads | {"kind": i}))
            slopes = self.source.context.address(op.lean)
            columns = heads | {"count": op.heads, "window": op.window, "bias": slopes}
            stages.alone(
                Row(table.ATTEND, op.queries, op.target, False, (op.factor, op.cap), columns)
            )
        elif isinstance(op, Convolve | SelectiveScan | SsdScan):
            stages.alone(state_row(op, self.source))
        elif isinstance(op, Route):
            self._route(op, stages)
        elif isinstance(op, Dispatch):
            stages.expert = self._first_expert + op.expert
            columns = {"count": 1, "width": self.source.width(index, op.source)}
            stages.token(Row(table.COPY, op.source, op.target, columns=columns))
        elif isinstance(op, Combine):
            width, shares = {"width": self.source.hidden}, op.dispatch.routing
            columns = {**width, "first": op.dispatch.expert}
            stages.token(Row(table.WEIGH, shares, op.source, True, columns=columns))
            stages.token(Row(table.ADD, op.source, STREAM, True, columns=width))
            stages.expert = -1
        else:
            for row in self.source.rows(index):
                stages.token(row)

    def _route(self, op: Route, stages: Stages) -> None:
        """Scores of all tokens, their experts, and the tokens of each expert."""
        experts, width = op.weight.shape
        columns = {"count": experts, "width": width,
                   "address": self.source.context.address(op.weight)}  # fmt: skip
        stages.token(Row(table.PROJECT, op.source, op.target, columns=columns))
        columns = {"count": op.top, "width": experts, "kind": op.normalised}
        stages.token(Row(table.ROUTE, op.target, op.target, True, columns=columns))
        self._first_expert, self.experts = self.experts, self.experts + experts
        columns = {"count": experts, "first": self._first_expert}
        stages.alone(Row(table.LIST, op.target, columns=columns))

    def _extra_row(self, linear: Linear) -> list[int]:
        """The row of `prompt_parts.EXTRAS` of one matrix, but for its slot."""
        parts = _rows(linear)
        if parts is None:
            raise TypeError(f"a {type(linear).__name__} has no codes for the prompt kernels")
        found = [0] * prompt_parts.EXTRAS
        for part in parts:
            for place, value in part.integers.items():
                found[place] = value if isinstance(value, int) else self.source.layout.field(value)
        return found

    def _set_slots(self) -> None:
        """Matrices that share an input share the slot of the first of them."""
        k = 0
        for site in self.sites:
            for i in range(len(site)):
                shared = bool(self.mats[k, product.SHARED])
                slot = self._extra[k - 1][prompt_parts.SLOT] if shared else i
                self._extra[k][prompt_parts.SLOT] = slot
                k += 1


def prompt_program_for(source: Program) -> PromptProgram | None:
    """A program where the kernels know all codes; None where BLAS is the better way."""
    body = source.ops[: source.body]
    if any(type(op) not in (*_KNOWN, *TOKEN_RULES) for op in body):
        return None
    linears = [f for op in body if isinstance(op, Multiply) for f in op.linears]
    known = all(_rows(f) is not None for f in linears)
    return PromptProgram(source) if known and path() != "generic" else None


def _rows(linear: Linear) -> list[EngineRow] | None:
    """What the parts of a layer tell the kernels; None for a layer that they do not know."""
    if not isinstance(linear, PackedLinear):
        return None
    rows = [term.prompt_row() for term in linear.matrix.terms]
    known = [row for row in rows if row is not None]
    has_codes = any(prompt_parts.UNITS in row.integers for row in known)
    return known if has_codes and len(known) == len(rows) else None
