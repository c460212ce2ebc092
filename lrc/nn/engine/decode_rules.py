"""Operations that only the loop for tokens has in a form of its own: a rule for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lrc.nn.engine.decode_table import DecodeTable
from lrc.nn.engine.program import Program
from lrc.nn.engine.rows import Row
from lrc.nn.engine.state_rows import state_row
from lrc.nn.ops import STREAM, Attend, Op
from lrc.nn.routing import Combine, Dispatch, Route
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Convolve, SelectiveScan
from lrc_kernels.cpu.engine import table


def _attend(made: DecodeTable, op: Attend, source: Program) -> None:
    """Each thread has its heads, and needs all queries, keys and values."""
    width, keys = op.heads * op.head_dim, op.kv_heads * op.head_dim
    queries = made.mine(op.queries, width)
    k, v = made.mine(op.keys, keys), made.mine(op.values, keys)
    target = made.ours(op.target)
    columns = {"count": op.heads, "kv_heads": op.kv_heads, "width": op.head_dim,
               "window": op.window, "address": op.layer,
               "bias": source.context.address(op.lean)}  # fmt: skip
    row = Row(table.ATTEND, numbers=(op.factor, op.cap), columns=columns)
    made.add(row, (queries, k, v), (target,), source=queries, keys=k, values=v, target=target)


def _route(made: DecodeTable, op: Route, source: Program) -> None:
    """Threads share the router's rows, and each finds the experts for itself: the same ones."""
    experts, width = op.weight.shape
    x, scores = made.places[op.source], made.ours(op.target)
    columns = {"count": experts, "width": width, "address": source.context.address(op.weight)}
    row = Row(table.PROJECT, columns={**columns, "parted": 1})
    made.add(row, (x,), (scores,), source=x, target=scores)
    shares = made.mine(op.target, experts, fresh=True)
    row = Row(table.ROUTE, columns={"count": op.top, "width": experts, "kind": op.normalised})
    made.add(row, (scores,), (shares,), source=scores, target=shares)


def _dispatch(made: DecodeTable, op: Dispatch, source: Program) -> None:
    """The token is the expert's as it is, or all up to `Combine` is left out."""
    # What is left out must not be what brings the stream to a thread.
    made.mine(STREAM, source.hidden)
    shares = made.places[op.routing]
    made.begin_skip(Row(table.SKIP, columns={"first": op.expert}), shares)
    made.places[op.target] = made.places[op.source]


def _combine(made: DecodeTable, op: Combine, source: Program) -> None:
    h, y = made.places[STREAM], made.mine(op.source, source.hidden)
    shares = made.places[op.dispatch.routing]
    row = Row(table.WEIGH, columns={"first": op.dispatch.expert, "width": source.hidden})
    made.add(row, (), (y,), source=shares, target=y)
    row = Row(table.ADD, columns={"width": source.hidden})
    made.add(row, (y,), (h,), source=y, target=h)
    made.end_skip()


def _convolve(made: DecodeTable, op: Convolve, source: Program) -> None:
    """Every thread convolves all channels, and writes the same states."""
    x = made.mine(op.value, op.weight.shape[1])
    made.add(state_row(op, source), (), (x,), target=x)


def _scan(made: DecodeTable, op: SelectiveScan | SsdScan, source: Program) -> None:
    """Each thread has its channels or heads."""
    row, reads = state_row(op, source), [made.places[name] for name in op.reads]
    operands = {column: made.places[name] for column, name in row.operands.items()}
    target = made.ours(op.target)
    made.add(row, reads, (target,), source=reads[0], target=target, **operands)


DECODE_RULES: dict[type[Op], Callable[[DecodeTable, Any, Program], None]] = {
    Attend: _attend,
    Route: _route,
    Dispatch: _dispatch,
    Combine: _combine,
    Convolve: _convolve,
    SelectiveScan: _scan,
    SsdScan: _scan,
}
