"""A model as the decode kernels read it: made once, read by any number of engines."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from lrc.nn.engine.program import Program
from lrc.nn.engine.rows import Row
from lrc.nn.ops import LOGITS, STREAM, Attend, Multiply
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.engine import table, token

#: Rows that change each number of a value by itself, so that threads may do a part each.
_APART = (table.ACTIVATE, table.SCALE, table.SOFT_CAP)


@dataclass(frozen=True)
class Buffer:
    """Room for f32 (width,): one for all threads (``shared``), or one for each."""

    width: int
    shared: bool


class Rows:
    """A table in the making: a barrier stands where one needs what another wrote.

    One also stands before one thread writes what another may still be reading.
    """

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.rows: list[list[int]] = []
        self.numbers: list[list[float]] = []
        self._read: set[int] = set()
        self._written: set[int] = set()

    def buffer(self, width: int, *, shared: bool = False) -> int:
        """Number of a new buffer."""
        self.buffers.append(Buffer(width, shared))
        return token.BUFFERS + len(self.buffers) - 1

    def is_shared(self, number: int) -> bool:
        """Whether all threads have the same buffer ``number``."""
        return self.buffers[number - token.BUFFERS].shared

    def add(
        self, row: Row, reads: Collection[int], writes: Collection[int], **operands: int
    ) -> None:
        """Add a row that reads and writes these buffers, each thread its part of shared ones.

        ``operands``: buffers by their columns.
        """
        reads = {b for b in reads if self.is_shared(b)}
        writes = {b for b in writes if self.is_shared(b)}
        if self._written & (reads | writes) or self._read & writes:
            self._append(Row(table.BARRIER))
            self._read, self._written = set(), set()
        self._append(row, **operands)
        self._read |= reads
        self._written |= writes

    def _append(self, row: Row, **operands: int) -> None:
        self.rows.append(row.integers(**operands))
        self.numbers.append(row.floats())


class DecodeProgram:
    """The table of one token, its buffers, and the matrices it reads; never written to.

    Threads share what products and attention write, and have all else to themselves.

    Parameters
    ----------
    source : Program

    Attributes
    ----------
    ops, numbers
        Rows of `lrc_kernels.cpu.engine.table`.
    body
        How many of them come before those that lead from the residual stream to logits.
    buffers
        Those that the table names, from number `token.BUFFERS` on.
    start, logits
        Numbers of the embedding's and the logits' buffers.
    vocab
        How many logits there are.
    widest
        Numbers in the longest vector that is rotated, or is one head's.
    """

    def __init__(self, source: Program) -> None:
        self.source = source
        self.mats, self.nums = source.mats, source.nums
        self.tables = source.layout.address(product.shared_tables())
        self._rows, self._products = Rows(), 0
        self._own: dict[str, int] = {}
        #: Where values are now.
        self._places: dict[str, int] = {}
        self._last_product = max(i for i, op in enumerate(source.ops) if isinstance(op, Multiply))
        # Products take turns, so that threads may go on while others still read the last one.
        self._outs = [self._out_buffers() for _ in range(2)]
        self.start = self._places[STREAM] = self._rows.buffer(source.hidden, shared=True)
        self._mine(STREAM, source.hidden)
        self.body = 0
        for index in range(len(source.ops)):
            if index == source.body:
                self.body = len(self._rows.rows)
            self._lower(index)
        self.buffers = tuple(self._rows.buffers)
        self.ops = np.array(self._rows.rows, np.int64)
        self.numbers = np.array(self._rows.numbers, np.float32)
        finished = self.ops[self.ops[:, table.CODE] == table.FINISH, table.MATRIX]
        inputs, outputs = self.mats[:, product.COLUMNS], self.mats[finished, product.ROWS]
        self.widest = int(max(inputs.max(), outputs.max(initial=0), source.head_dim))
        self.logits, self.vocab = self._places[LOGITS], source.width(-1, LOGITS)

    def _lower(self, index: int) -> None:
        """Add the rows of operation ``index``."""
        op = self.source.ops[index]
        if isinstance(op, Multiply):
            self._multiply(index, op)
        elif isinstance(op, Attend):
            self._attend(op)
        else:
            for row in self.source.rows(index):
                self._token(row, self.source.width(index, row.target))

    def _token(self, row: Row, width: int) -> None:
        """Add a row of one token, on each thread's own memory where that is not wasted."""
        place = self._places.get(row.target)
        if row.code in _APART and place is not None and self._rows.is_shared(place):
            parted = replace(row, columns={**row.columns, "parted": 1})
            self._rows.add(parted, (), (place,), target=place)
            return
        source = self._places[row.source]
        fresh = not row.changes and row.source != row.target
        target = self._mine(row.target, width, fresh=fresh)
        source = target if row.source == row.target else source
        self._rows.add(row, (source, target), (target,), source=source, target=target)

    def _multiply(self, index: int, op: Multiply) -> None:
        """Rows of products, and of rotating each back into a thread's own memory."""
        first, outs = self.source.first_matrix(index), self._outs[self._products % 2]
        self._products += 1
        source, used = self._places[op.source], outs[: len(op.linears)]
        row = Row(table.MULTIPLY, columns={"matrix": first, "count": len(op.linears)})
        self._rows.add(row, (source,), used, source=source, target=outs[0])
        for k, out, name in zip(range(first, self.mats.shape[0]), used, op.targets, strict=False):
            last = index == self._last_product
            if last and self.mats[k, product.SIGNS_OUT] == self.mats[k, product.BIAS] == 0:
                self._places[name] = out
                continue
            target = self._mine(name, self.source.width(index, name), fresh=True)
            row = Row(table.FINISH, columns={"matrix": k})
            self._rows.add(row, (out,), (target,), source=out, target=target)

    def _attend(self, op: Attend) -> None:
        width, keys = op.heads * op.head_dim, op.kv_heads * op.head_dim
        queries = self._mine(op.queries, width)
        k, v = self._mine(op.keys, keys), self._mine(op.values, keys)
        name = f"{op.target}, shared"
        if name not in self._own:
            self._own[name] = self._rows.buffer(self.source.widths[op.target], shared=True)
        target = self._places[op.target] = self._own[name]
        columns = {"count": op.heads, "kv_heads": op.kv_heads, "width": op.head_dim,
                   "window": op.window, "address": op.layer}  # fmt: skip
        row = Row(table.ATTEND, numbers=(op.factor, op.cap), columns=columns)
        self._rows.add(
            row, (queries, k, v), (target,), source=queries, keys=k, values=v, target=target
        )

    def _mine(self, name: str, width: int, *, fresh: bool = False) -> int:
        """Each thread's own buffer of a value, which is copied there unless it is ``fresh``."""
        if name not in self._own:
            self._own[name] = self._rows.buffer(self.source.widths[name])
        own = self._own[name]
        if not fresh and self._places[name] != own:
            source = self._places[name]
            row = Row(table.COPY, columns={"count": 1, "width": width})
            self._rows.add(row, (source,), (own,), source=source, target=own)
        self._places[name] = own
        return own

    def _out_buffers(self) -> list[int]:
        """Buffers of products that share an input, one after the other."""
        sites = [op.linears for op in self.source.ops if isinstance(op, Multiply)]
        widths = [
            max(site[i].shape[0] for site in sites if len(site) > i)
            for i in range(self.source.together)
        ]
        return [self._rows.buffer(width, shared=True) for width in widths]
