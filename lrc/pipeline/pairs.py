"""Pairs of matrices with nothing but narrow values between them, and what each is cut to.

A row of the first and the column of the second that takes it are one inner channel: a hidden unit
of the feed-forward part, a channel of a head's values, one of its queries and keys. A block is made
narrower by taking channels away on both sides, after a change of basis where nothing in between
minds. Three closed forms, of the second moment H of the inputs:

- hidden units: the most by ridge leverage, diag(C (C + l I)^-1) of their moment C, and the second
  matrix refitted to those that stay, W C[:, K] C[K, K]^-1 (Nystrom).
- values of a head: with C = V H V^T, the basis that is best for what outputs make of them (the
  optimum of both matrices), or the leading eigenvectors of C (head by head PCA).
- queries and keys of a head: the most by (C_q[i, i] C_k[i, i])^(1/2), those that positions rotate
  together as one.

Sources: MoDeGPT, arXiv 2408.09632; FLAT-LLM, arXiv 2505.23966. Query heads that share keys and
values share the choice.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.lowrank import rank_constrained_regression, solve_left, top_eigenvectors
from lrc.models.base import Block
from lrc.nn.ops import Activate, Attend, Gate, Multiply, Rotate
from lrc.parts.kept import COLUMNS, ROWS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Pairs:
    """Keys of a block's layers by what they are to one another; empty where there is no such pair.

    ``rotated`` is how positions rotate queries and keys, None where they do not.
    """

    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    values: str = ""
    outputs: str = ""
    queries: str = ""
    keys: str = ""
    rotated: Rotate | None = None
    hidden: tuple[str, ...] = ()
    second: str = ""


@dataclass(frozen=True)
class Cut:
    """``values`` (count, other side), float64, at the ascending ``places`` of a ``side``."""

    side: str
    places: Places
    values: F64


def pairs_of(block: Block) -> Pairs:
    """What a block's operations say is a pair; whatever else stands between parts them."""
    made_by: dict[str, str] = {}
    rotated: dict[str, Rotate] = {}
    hidden: dict[str, tuple[str, ...]] = {}
    mixed: dict[str, Pairs] = {}
    found, site = Pairs(), 0
    for op in block.ops():
        keys: tuple[str, ...] = ()
        if isinstance(op, Multiply):
            keys = block.sites[site].linears
            site += 1
            if len(keys) == 1 and op.source in mixed:
                attention = dataclasses.replace(mixed[op.source], outputs=keys[0])
                found = dataclasses.replace(attention, hidden=found.hidden, second=found.second)
            if len(keys) == 1 and op.source in hidden and op.dispatch is None:
                found = dataclasses.replace(found, hidden=hidden[op.source], second=keys[0])
            if op.dispatch is not None:
                keys = ()
        if isinstance(op, Rotate):
            rotated[op.value] = op
            continue
        attends = _attention(op, made_by, rotated) if isinstance(op, Attend) else None
        inner = _inner(op, made_by)
        for name in op.writes:
            for known in (made_by, rotated, hidden, mixed):
                known.pop(name, None)
        if isinstance(op, Multiply) and keys:
            made_by |= dict(zip(op.targets, keys, strict=True))
        if attends is not None:
            mixed[op.writes[0]] = attends
        if inner:
            hidden[op.writes[0]] = inner
    return found


def _inner(op: object, made_by: dict[str, str]) -> tuple[str, ...]:
    """The layers whose outputs, and nothing else, an activation is of."""
    if isinstance(op, Gate):
        keys = (made_by.get(op.gate, ""), made_by.get(op.up, ""))
        return keys if all(keys) else ()
    if isinstance(op, Activate) and op.value in made_by:
        return (made_by[op.value],)
    return ()


def _attention(op: Attend, made_by: dict[str, str], rotated: dict[str, Rotate]) -> Pairs:
    """Layers of queries, keys and values that attention takes as they are, or rotated alike."""
    values = "" if op.values in rotated else made_by.get(op.values, "")
    both = made_by.get(op.queries, ""), made_by.get(op.keys, "")
    rotations = rotated.get(op.queries), rotated.get(op.keys)
    alike = all(both) and (rotations[0] is None) == (rotations[1] is None)
    if rotations[0] is not None and rotations[0].rope.head_dim != op.head_dim:
        alike = False  # of each head only some are rotated
    queries, keys = both if alike else ("", "")
    return Pairs(
        op.heads, op.kv_heads, op.head_dim, values, "", queries, keys, rotations[0]
    )  # fmt: skip


def hidden_units(C: F64, count: int) -> Places:
    """The ``count`` units of the most ridge leverage in their moment C (n, n), ascending.

    The ridge is the mean of the diagonal, so that it does not depend on units or tokens.
    """
    ridge = float(np.trace(C)) / len(C) or 1.0
    leverage = 1.0 - ridge * np.diag(np.linalg.inv(C + ridge * np.eye(len(C))))
    return np.sort(np.argsort(-leverage, kind="stable")[:count])


def refitted(W: F32, C: F64, places: Places) -> Cut:
    """Columns of W (m, n) for the inputs at ``places`` alone: W C[:, K] C[K, K]^-1."""
    chosen = np.zeros((len(places), len(C)))
    chosen[np.arange(len(places)), places] = 1.0
    return Cut(COLUMNS, places, solve_left(W, C, chosen).T)


def head_values(
    V: F32, W: F32, H: F64, pairs: Pairs, count: int, *, joint: bool, seed: int
) -> tuple[Cut, Cut]:
    """``count`` channels of every head of values V (., n) and outputs W (m, .), under H (n, n).

    ``joint``: those of the least loss of what outputs make of each head, else of the head itself.
    """
    d, group = pairs.head_dim, pairs.heads // pairs.kv_heads
    rows, columns = [], []
    for head in range(pairs.kv_heads):
        own = np.asarray(V[head * d : (head + 1) * d], np.float64)
        C = own @ H @ own.T
        takers = [
            np.asarray(W[:, q * d : (q + 1) * d], np.float64)
            for q in range(head * group, (head + 1) * group)
        ]
        if joint:
            best = rank_constrained_regression(
                np.concatenate(takers), 0.5 * (C + C.T), count, seed=seed
            )
            rows.append(best.R @ own)
            columns += np.split(best.L, group)
        else:
            basis = top_eigenvectors(0.5 * (C + C.T), count, seed)[1]
            rows.append(basis.T @ own)
            columns += [taker @ basis for taker in takers]
    first = [
        (np.arange(heads)[:, None] * d + np.arange(count)).ravel()
        for heads in (pairs.kv_heads, pairs.heads)
    ]
    return (
        Cut(ROWS, first[0], np.concatenate(rows)),
        Cut(COLUMNS, first[1], np.concatenate([of.T for of in columns])),
    )


def queries_and_keys(Q: F32, K: F32, H: F64, pairs: Pairs, part: float) -> tuple[Cut, Cut]:
    """About a ``part`` of the channels of every head of queries and keys, under H (n, n)."""
    d, group = pairs.head_dim, pairs.heads // pairs.kv_heads
    units = _together(pairs)
    energies = [
        np.einsum("ij,ij->i", A @ H, A).reshape(-1, d)
        for A in (np.asarray(M, np.float64) for M in (Q, K))
    ]
    count = max(int(part * len(units)), 1)
    chosen: list[Places] = []
    for head in range(pairs.kv_heads):
        asked = energies[0][head * group : (head + 1) * group].sum(0)
        scores = asked[units].sum(1) * energies[1][head][units].sum(1)
        best = np.argsort(-scores, kind="stable")[:count]
        chosen.append(np.sort(units[best].ravel()))
    rows = [
        np.concatenate([chosen[head * pairs.kv_heads // heads] + head * d for head in range(heads)])
        for heads in (pairs.heads, pairs.kv_heads)
    ]
    return tuple(  # type: ignore[return-value]
        Cut(ROWS, places, np.asarray(M[places], np.float64))
        for M, places in zip((Q, K), rows, strict=True)
    )


def _together(pairs: Pairs) -> Places:
    """Channels of a head that are rotated together, a row each: (units, 1 or 2)."""
    d = pairs.head_dim
    if pairs.rotated is None:
        return np.arange(d)[:, None]
    if pairs.rotated.rope.interleaved:
        return np.arange(d).reshape(-1, 2)
    return np.arange(d).reshape(2, -1).T
