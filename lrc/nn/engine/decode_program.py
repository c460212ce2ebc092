"""A model as the decode kernels read it: made once, read by any number of engines."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np

from lrc.nn.engine.decode_rules import DECODE_RULES
from lrc.nn.engine.decode_table import DecodeTable
from lrc.nn.engine.program import Program
from lrc.nn.engine.rows import Row
from lrc.nn.ops import LOGITS, STREAM, Multiply
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.engine import table
from lrc_kernels.cpu.transform.activations import SEVEN

#: Rows that change each number of a value by itself, so that threads may do a part each.
_APART = (table.ACTIVATE, table.SCALE, table.SOFT_CAP)


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
        self._table, self._products = DecodeTable(source.widths), 0
        self._last_product = max(i for i, op in enumerate(source.ops) if isinstance(op, Multiply))
        # Products take turns, so that threads may go on while others still read the last one.
        self._outs = [self._out_buffers() for _ in range(2)]
        self.start = self._table.places[STREAM] = self._table.buffer(source.hidden, shared=True)
        self._table.mine(STREAM, source.hidden)
        self.body = 0
        for index in range(len(source.ops)):
            if index == source.body:
                self.body = len(self._table.rows)
            self._lower(index)
        self.buffers = tuple(self._table.buffers)
        self.ops = np.array(self._table.rows, np.int64)
        self.numbers = np.array(self._table.numbers, np.float32)
        finished = self.ops[self.ops[:, table.CODE] == table.FINISH, table.MATRIX]
        inputs, outputs = self.mats[:, product.COLUMNS], self.mats[finished, product.ROWS]
        self.widest = int(max(inputs.max(), outputs.max(initial=0), source.head_dim))
        self.logits, self.vocab = self._table.places[LOGITS], source.width(-1, LOGITS)

    def on_15_bits(self) -> DecodeProgram:
        """The same with all activations as pairs of bytes, those of trellises too."""
        made = copy(self)
        made.mats = self.mats.copy()
        made.mats[:, product.ORDERS] &= ~SEVEN
        return made

    def _lower(self, index: int) -> None:
        """Add the rows of operation ``index``."""
        op = self.source.ops[index]
        lower = DECODE_RULES.get(type(op))
        if isinstance(op, Multiply):
            self._multiply(index, op)
        elif lower is not None:
            lower(self._table, op, self.source)
        else:
            for row in self.source.rows(index):
                self._token(row, self.source.width(index, row.target))

    def _token(self, row: Row, width: int) -> None:
        """Add a row of one token, on each thread's own memory where that is not wasted."""
        made, place = self._table, self._table.places.get(row.target)
        if row.code in _APART and place is not None and made.is_shared(place):
            parted = replace(row, columns={**row.columns, "parted": 1})
            made.add(parted, (), (place,), target=place)
            return
        source = made.places[row.source]
        fresh = not row.changes and row.source != row.target
        target = made.mine(row.target, width, fresh=fresh)
        source = target if row.source == row.target else source
        made.add(row, (source, target), (target,), source=source, target=target)

    def _multiply(self, index: int, op: Multiply) -> None:
        """Rows of products, and of rotating each back into a thread's own memory."""
        first, outs = self.source.first_matrix(index), self._outs[self._products % 2]
        self._products += 1
        source, used = self._table.places[op.source], outs[: len(op.linears)]
        row = Row(table.MULTIPLY, columns={"matrix": first, "count": len(op.linears)})
        self._table.add(row, (source,), used, source=source, target=outs[0])
        for k, out, name in zip(range(first, self.mats.shape[0]), used, op.targets, strict=False):
            last = index == self._last_product
            if last and self.mats[k, product.SIGNS_OUT] == self.mats[k, product.BIAS] == 0:
                self._table.places[name] = out
                continue
            target = self._table.mine(name, self.source.width(index, name), fresh=True)
            row = Row(table.FINISH, columns={"matrix": k})
            self._table.add(row, (out,), (target,), source=out, target=target)

    def _out_buffers(self) -> list[int]:
        """Buffers of products that share an input, one after the other."""
        sites = [op.linears for op in self.source.ops if isinstance(op, Multiply)]
        widths = [
            max(site[i].shape[0] for site in sites if len(site) > i)
            for i in range(self.source.together)
        ]
        return [self._table.buffer(width, shared=True) for width in widths]
