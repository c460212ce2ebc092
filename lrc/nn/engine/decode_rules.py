"""Operations that only the loop for tokens has in a form of its own: a rule for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lrc.nn.engine.decode_table import DecodeTable
from lrc.nn.engine.program import Program
from lrc.nn.engine.rows import Row
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
    taps, channels = op.weight.shape
    x, at = made.mine(op.value, channels), source.context
    columns = {"count": taps, "width": channels, "address": at.address(op.weight),
               "bias": at.address(op.bias), "state": source.state(op.state)}  # fmt: skip
    made.add(Row(table.CONVOLVE, columns=columns), (), (x,), target=x)


def _selective_scan(made: DecodeTable, op: SelectiveScan, source: Program) -> None:
    states, channels = op.decay.shape
    columns = {"count": states, "width": channels}
    _scan(made, op, source, table.SELECTIVE_SCAN, columns)


def _ssd_scan(made: DecodeTable, op: SsdScan, source: Program) -> None:
    columns = {"count": op.size, "width": op.head_dim, "kv_heads": op.groups,
               "stride": len(op.decay)}  # fmt: skip
    _scan(made, op, source, table.SSD_SCAN, columns)


def _scan(
    made: DecodeTable, op: SelectiveScan | SsdScan, source: Program, code: int,
    columns: Mapping[str, int],
) -> None:  # fmt: skip
    """Each thread has its channels or heads."""
    x, dt, b, c = (made.places[name] for name in op.reads)
    target, at = made.ours(op.target), source.context
    addresses = {"address": at.address(op.decay), "bias": at.address(op.skip),
                 "state": source.state(op.state)}  # fmt: skip
    row = Row(code, columns={**columns, **addresses})
    made.add(row, (x, dt, b, c), (target,), source=x, keys=dt, values=b, outputs=c, target=target)


DECODE_RULES: dict[type[Op], Callable[[DecodeTable, Any, Program], None]] = {
    Attend: _attend,
    Route: _route,
    Dispatch: _dispatch,
    Combine: _combine,
    Convolve: _convolve,
    SelectiveScan: _selective_scan,
    SsdScan: _ssd_scan,
}
