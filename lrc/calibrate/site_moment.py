"""Second moments of the inputs of a site: of all tokens, or of those that an expert computes.

The output of an expert counts in a token as much as its share of it, and the square of an error by
the square: rows have their shares for weights. What a residual stream lacks is made up by the
token's experts in the same proportion. An expert that few tokens are routed to has a bad estimate
of its own, which moves towards that of other tokens (`SecondMoment.shrink_to`): all that come to
the experts of the block, and deeper in the expert a sample of these, which it computes for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import ordered_map
from lrc.calibrate.streams import CHUNK_TOKENS, Stream
from lrc.linalg.precision import is_wide
from lrc.linalg.row_moment import RowMoment, rows_are_few
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import ChunkMoment, TokenRows, chunk_moment, token_rows
from lrc.nn.routing import Dispatch, Rows

Array = NDArray[np.float32]
#: Moments of all tokens that come to the experts of a block, by the name of the value.
Shared = dict[str, SecondMoment]


@dataclass(frozen=True)
class _Rows:
    """Inputs z (T, n), those of the original x, what the student lacks (T, d), and weights (T,)."""

    z: Array
    x: Array | None = None
    gap: Array | None = None
    weights: Array | None = None


class MomentOptions(TypedDict, total=False):
    """What a caller may choose; see `site_moment`."""

    residual_gap: bool
    token_weights: Sequence[Array] | None
    device: str
    centre: NDArray[np.float64] | None


def site_moment(
    student: Stream,
    original: Stream | None,
    threads: int,
    *,
    residual_gap: bool = False,
    shared: Shared | None = None,
    token_weights: Sequence[Array] | None = None,
    device: str = "cpu",
    centre: NDArray[np.float64] | None = None,
) -> SecondMoment | RowMoment:
    """Moments at the current site; with ``original`` also the cross moment of both streams.

    ``residual_gap``: and that of the difference of their residual streams, for a site that writes
    there; not for experts that are calibrated on all tokens, of which most do not see them.
    ``token_weights`` are what products of each token count, (tokens,) of each chunk; tokens of
    experts count by their shares alone. ``centre`` (n,) is taken off the inputs z of every token
    first. ``shared`` (work) keeps what the experts of a block have in
    common from one to the next. Where
    tokens are few for a wide site (`rows_are_few`), their rows are kept instead of products. Chunks
    are summed in order, so threads do not change a bit; ``device`` is where. Cost 3 T n^2 with two
    streams.
    """
    gap = residual_gap and original is not None
    dispatch = None if student.site is None else student.site.dispatch
    if dispatch is None:
        rows = _centred(_all_rows(student, original, gap=gap, token_weights=token_weights), centre)
        if rows_are_few(student.tokens, student.inputs[0].shape[-1]):
            return _row_moment(rows, student, original, gap=gap)
        return _moment(rows, student, original, threads, gap=gap, device=device)
    gap = gap and not student.all_experts
    own = () if student.all_experts else _routed_rows(student, original, dispatch, gap=gap)
    routed = _grouped(_centred(own, centre))
    if _experts_rows_are_few(student, dispatch):
        few = _row_moment(routed, student, original, gap=gap)
        sample = _centred(_sample_rows(student, original, dispatch), centre)
        few.shrink_to([_of(rows) for rows in _grouped(sample)])
        return few
    moment = _moment(routed, student, original, threads, gap=gap, device=device)
    known = {} if shared is None else shared
    moment.shrink_to(_of_others(student, original, threads, dispatch, known, device, centre))
    return moment


def site_rows(student: Stream, token_weights: Sequence[Array] | None = None) -> Iterator[_Rows]:
    """What is known of the current site alone: inputs, and weights where there are any."""
    dispatch = None if student.site is None else student.site.dispatch
    if dispatch is None or student.all_experts:
        return _all_rows(student, None, token_weights=token_weights)
    return _routed_rows(student, None, dispatch, gap=False)


def _centred(parts: Iterable[_Rows], centre: NDArray[np.float64] | None) -> Iterable[_Rows]:
    """The same rows, their inputs less what they are on average."""
    if centre is None:
        return parts
    mean = centre.astype(np.float32)
    return (replace(rows, z=rows.z - mean) for rows in parts)


def _experts_rows_are_few(student: Stream, dispatch: Dispatch) -> bool:
    """Whether an expert's own rows and those of the sample are few for a site deep in it."""
    assert student.site is not None
    if student.site.source == dispatch.target:  # its inputs are those of all experts
        return False
    shares = (dispatch.shares(values) for values in student.values)
    own = sum(int(np.count_nonzero(of)) for of in shares)
    return rows_are_few(own + student.sampled, student.inputs[0].shape[-1])


def _of_others(
    student: Stream,
    original: Stream | None,
    threads: int,
    dispatch: Dispatch,
    shared: Shared,
    device: str,
    centre: NDArray[np.float64] | None,
) -> ChunkMoment:
    """Moments of tokens whichever expert they have; ``shared`` (work) is as in `site_moment`.

    Of every expert anew where each has a ``centre`` of its own.
    """
    if student.site is not None and student.site.source == dispatch.target:
        if dispatch.source not in shared or centre is not None:
            rows = _centred(_all_rows(student, original, dispatch.source), centre)
            shared[dispatch.source] = _moment(rows, student, original, threads, device=device)
        return shared[dispatch.source].sums()
    sample = _centred(_sample_rows(student, original, dispatch), centre)
    if student.all_experts:
        return _moment(_grouped(sample), student, original, threads, device=device).sums()
    few = _joined(list(sample))
    return chunk_moment(few.z, few.x)  # in float32: at n = 14336 that saves gigabytes


@dataclass(frozen=True)
class Routed:
    """What is routed to an expert: so many ``tokens``, which are this ``part`` of all.

    ``mass`` is its mean squared share in all tokens.
    """

    tokens: int
    part: float
    mass: float


#: What a site has that is of no expert.
EVERYTHING = Routed(0, 1.0, 1.0)


def routed_to(stream: Stream) -> Routed | None:
    """What is routed to the expert of the current site; None where it is of none."""
    dispatch = None if stream.site is None else stream.site.dispatch
    if dispatch is None:
        return None
    shares = np.concatenate([dispatch.shares(values) for values in stream.values])
    mass = float(np.square(shares, dtype=np.float64).mean())
    tokens = int(np.count_nonzero(shares))
    return Routed(tokens, tokens / len(shares), mass)


def _moment(
    parts: Iterable[_Rows],
    student: Stream,
    original: Stream | None,
    threads: int,
    *,
    gap: bool = False,
    device: str = "cpu",
) -> SecondMoment:
    """The sum over parts, in their order."""
    n, d = student.inputs[0].shape[-1], student.hidden[0].shape[-1]
    moment = SecondMoment(n, cross=original is not None, residual_gap=d if gap else 0)

    if device != "cpu":
        from lrc.linalg import cuda

        found = cuda.moments(_of(rows) for rows in parts)
        if found is not None:
            moment.add(found)
        return moment

    def work(rows: _Rows) -> ChunkMoment:
        return _of(rows).moments()

    if is_wide(n):  # moments of several chunks would not fit side by side
        for rows in parts:
            moment.add_rows(_of(rows), threads)
        return moment
    for part in ordered_map(work, parts, threads):
        moment.add(part)
    return moment


def _row_moment(
    parts: Iterable[_Rows], student: Stream, original: Stream | None, *, gap: bool
) -> RowMoment:
    """The same of rows that are kept."""
    n, d = student.inputs[0].shape[-1], student.hidden[0].shape[-1]
    moment = RowMoment(n, cross=original is not None, residual_gap=d if gap else 0)
    for rows in parts:
        moment.add(_of(rows))
    return moment


def _of(rows: _Rows) -> TokenRows:
    return token_rows(rows.z, rows.x, rows.gap, rows.weights)


def _all_rows(
    student: Stream,
    original: Stream | None,
    source: str = "",
    *,
    gap: bool = False,
    token_weights: Sequence[Array] | None = None,
) -> Iterator[_Rows]:
    """Every token of each chunk: the value ``source``, or inputs of the site."""

    def of(stream: Stream, chunk: int) -> Array:
        return _flat(stream.values[chunk][source] if source else stream.inputs[chunk])

    for chunk in range(len(student.values)):
        yield _Rows(
            of(student, chunk),
            None if original is None else of(original, chunk),
            _gap(student, original, chunk) if gap else None,
            None if token_weights is None else np.sqrt(token_weights[chunk]),
        )
        _rest(student, original, chunk)


def _routed_rows(
    student: Stream, original: Stream | None, dispatch: Dispatch, *, gap: bool
) -> Iterator[_Rows]:
    """Tokens that are routed to an expert, and their shares."""
    for chunk, values in enumerate(student.values):
        rows, shares = dispatch.rows(values, student.pass_of(chunk)), dispatch.shares(values)
        own = shares[rows] > 0
        yield _Rows(
            student.inputs[chunk][own],
            None if original is None else original.inputs[chunk][own],
            _gap(student, original, chunk, rows[own]) if gap else None,
            shares[rows[own]],
        )
        _rest(student, original, chunk)


def _sample_rows(student: Stream, original: Stream | None, dispatch: Dispatch) -> Iterator[_Rows]:
    """Tokens that every expert computes, whether they are routed to it or not."""
    for chunk, values in enumerate(student.values):
        wanted = np.zeros(len(dispatch.shares(values)), bool)
        wanted[student.pass_of(chunk).sample] = True
        kept = wanted[dispatch.rows(values, student.pass_of(chunk))]
        x = None if original is None else original.inputs[chunk][kept]
        yield _Rows(student.inputs[chunk][kept], x)
        _rest(student, original, chunk)


def _rest(student: Stream, original: Stream | None, chunk: int) -> None:
    """Give back the memory of a chunk whose rows were taken; see `Stream.rest`."""
    student.rest(chunk)
    if original is not None:
        original.rest(chunk)


def _grouped(parts: Iterable[_Rows]) -> Iterator[_Rows]:
    """The same rows, those of several chunks together: a product of few rows is mostly sums."""
    group: list[_Rows] = []
    for rows in parts:
        if group and sum(len(part.z) for part in (*group, rows)) > CHUNK_TOKENS:
            yield _joined(group)
            group = []
        if len(rows.z):
            group.append(rows)
    if group:
        yield _joined(group)


def _joined(group: list[_Rows]) -> _Rows:
    def of(arrays: Iterable[Array | None]) -> Array | None:
        there = [array for array in arrays if array is not None]
        return np.concatenate(there) if there else None

    z = np.concatenate([rows.z for rows in group])
    others = (of(getattr(rows, name) for rows in group) for name in ("x", "gap", "weights"))
    return _Rows(z, *others)


def _gap(
    student: Stream, original: Stream | None, chunk: int, rows: Rows | slice = slice(None)
) -> Array:
    """What the student's residual stream lacks in some tokens, (T, d)."""
    assert original is not None
    return _flat(original.hidden[chunk])[rows] - _flat(student.hidden[chunk])[rows]


def _flat(values: Array) -> Array:
    return values.reshape(-1, values.shape[-1])
