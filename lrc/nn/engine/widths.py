"""Whether the operations of a model fit together: widths of values, and experts that are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lrc.nn.engine.token_rules import TOKEN_RULES, Widths
from lrc.nn.ops import STREAM, Attend, Multiply, Op, Split
from lrc.nn.routing import Combine, Dispatch, Route
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Convolve, SelectiveScan


def _multiply(op: Multiply, now: Widths) -> bool:
    return all(f.shape[1] == now[op.source] for f in op.linears)


def _attend(op: Attend, now: Widths) -> bool:
    own = op.kv_heads * op.head_dim
    queries = now[op.queries] == op.heads * op.head_dim and op.heads % op.kv_heads == 0
    return queries and now[op.keys] == now[op.values] == own


def _selective_scan(op: SelectiveScan, now: Widths) -> bool:
    states, channels = op.decay.shape
    return [now[name] for name in op.reads] == [channels, channels, states, states]


def _ssd_scan(op: SsdScan, now: Widths) -> bool:
    heads, shared = len(op.decay), op.groups * op.size
    whole = heads % op.groups == 0
    return whole and [now[name] for name in op.reads] == [
        heads * op.head_dim, heads, shared, shared,
    ]  # fmt: skip


#: Operations beside those of `TOKEN_RULES`, and whether they fit values of such widths.
OTHERS: dict[type[Op], Callable[[Any, Widths], bool]] = {
    Multiply: _multiply,
    Attend: _attend,
    Route: lambda op, now: op.weight.shape[1] == now[op.source] and op.top <= len(op.weight),
    Dispatch: lambda op, now: op.expert < now[op.routing],
    Combine: lambda op, now: now[op.source] == now[STREAM],
    Convolve: lambda op, now: op.weight.shape[1] == now[op.value],
    SelectiveScan: _selective_scan,
    SsdScan: _ssd_scan,
}


def widths_after(op: Op, now: Widths) -> dict[str, int]:
    """Widths of what an operation writes, where those of what it reads are ``now``.

    Raises
    ------
    ValueError
        When it does not fit them: addresses alone would not tell.
    """
    fits = OTHERS.get(type(op)) or TOKEN_RULES[type(op)].fits
    if not fits(op, now):
        raise ValueError(f"{op.name}: {op} does not fit values of widths {now}")
    if isinstance(op, Multiply):
        return {to: f.shape[0] for to, f in zip(op.targets, op.linears, strict=True)}
    if isinstance(op, Split):
        return {to: op.groups * n for to, n in zip(op.targets, op.widths, strict=True)}
    if isinstance(op, Route):
        return {op.target: len(op.weight)}
    if isinstance(op, Combine):
        return {}
    return dict.fromkeys(op.writes, now[op.reads[0]])


def experts_are_apart(ops: Sequence[Op]) -> bool:
    """Whether all from a `Dispatch` to its `Combine` may be left out: none else needs it."""
    #: Values that are there or not, as an expert is left out or not; those of the expert at hand.
    doubtful, made = set[str](), set[str]()
    expert: Dispatch | None = None
    for op in ops:
        if set(op.reads) & (doubtful - made):
            return False
        if isinstance(op, Dispatch):
            fits, expert, made = expert is None, op, {op.target}
        elif isinstance(op, Combine):
            fits, expert = expert is op.dispatch, None
            doubtful, made = doubtful | made, set()
        elif expert is None:
            fits, doubtful = True, doubtful - set(op.writes)
        else:
            fits = not (isinstance(op, Attend | Route) or op.states or STREAM in op.writes)
            made |= set(op.writes)
        if not fits:
            return False
    return expert is None
