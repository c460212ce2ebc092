"""Inputs of a site as rows, chunk by chunk: of all tokens, or of those that an expert computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lrc.calibrate.streams import CHUNK_TOKENS, Stream
from lrc.nn.routing import Dispatch, Rows

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SiteRows:
    """Inputs z (T, n), those of the original x, what the student lacks (T, d), and weights (T,)."""

    z: Array
    x: Array | None = None
    gap: Array | None = None
    weights: Array | None = None


def site_rows(student: Stream, token_weights: Sequence[Array] | None = None) -> Iterator[SiteRows]:
    """What is known of the current site alone: inputs, and weights where there are any."""
    dispatch = None if student.site is None else student.site.dispatch
    if dispatch is None or student.all_experts:
        return all_rows(student, None, token_weights=token_weights)
    return routed_rows(student, None, dispatch, gap=False)


def centred(parts: Iterable[SiteRows], centre: NDArray[np.float64] | None) -> Iterable[SiteRows]:
    """The same rows, their inputs less what they are on average."""
    if centre is None:
        return parts
    mean = centre.astype(np.float32)
    return (replace(rows, z=rows.z - mean) for rows in parts)


def all_rows(
    student: Stream,
    original: Stream | None,
    source: str = "",
    *,
    gap: bool = False,
    token_weights: Sequence[Array] | None = None,
) -> Iterator[SiteRows]:
    """Every token of each chunk: the value ``source``, or inputs of the site."""

    def of(stream: Stream, chunk: int) -> Array:
        return _flat(stream.values[chunk][source] if source else stream.inputs[chunk])

    for chunk in range(len(student.values)):
        yield SiteRows(
            of(student, chunk),
            None if original is None else of(original, chunk),
            _gap(student, original, chunk) if gap else None,
            None if token_weights is None else np.sqrt(token_weights[chunk]),
        )
        _rest(student, original, chunk)


def routed_rows(
    student: Stream, original: Stream | None, dispatch: Dispatch, *, gap: bool
) -> Iterator[SiteRows]:
    """Tokens that are routed to an expert, and their shares."""
    for chunk, values in enumerate(student.values):
        rows, shares = dispatch.rows(values, student.pass_of(chunk)), dispatch.shares(values)
        own = shares[rows] > 0
        yield SiteRows(
            student.inputs[chunk][own],
            None if original is None else original.inputs[chunk][own],
            _gap(student, original, chunk, rows[own]) if gap else None,
            shares[rows[own]],
        )
        _rest(student, original, chunk)


def sample_rows(student: Stream, original: Stream | None, dispatch: Dispatch) -> Iterator[SiteRows]:
    """Tokens that every expert computes, whether they are routed to it or not."""
    for chunk, values in enumerate(student.values):
        wanted = np.zeros(len(dispatch.shares(values)), bool)
        wanted[student.pass_of(chunk).sample] = True
        kept = wanted[dispatch.rows(values, student.pass_of(chunk))]
        x = None if original is None else original.inputs[chunk][kept]
        yield SiteRows(student.inputs[chunk][kept], x)
        _rest(student, original, chunk)


def _rest(student: Stream, original: Stream | None, chunk: int) -> None:
    """Give back the memory of a chunk whose rows were taken; see `Stream.rest`."""
    student.rest(chunk)
    if original is not None:
        original.rest(chunk)


def grouped(parts: Iterable[SiteRows]) -> Iterator[SiteRows]:
    """The same rows, those of several chunks together: a product of few rows is mostly sums."""
    group: list[SiteRows] = []
    for rows in parts:
        if group and sum(len(part.z) for part in (*group, rows)) > CHUNK_TOKENS:
            yield joined(group)
            group = []
        if len(rows.z):
            group.append(rows)
    if group:
        yield joined(group)


def joined(group: list[SiteRows]) -> SiteRows:
    """All rows of a group together."""

    def of(arrays: Iterable[Array | None]) -> Array | None:
        there = [array for array in arrays if array is not None]
        return np.concatenate(there) if there else None

    z = np.concatenate([rows.z for rows in group])
    others = (of(getattr(rows, name) for rows in group) for name in ("x", "gap", "weights"))
    return SiteRows(z, *others)


def _gap(
    student: Stream, original: Stream | None, chunk: int, rows: Rows | slice = slice(None)
) -> Array:
    """What the student's residual stream lacks in some tokens, (T, d)."""
    assert original is not None
    return _flat(original.hidden[chunk])[rows] - _flat(student.hidden[chunk])[rows]


def _flat(values: Array) -> Array:
    return values.reshape(-1, values.shape[-1])
