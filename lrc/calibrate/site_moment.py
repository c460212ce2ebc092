"""Second moments of the inputs of a site: of all tokens, or of those that an expert computes.

The output of an expert counts in a token as much as its share of it, and the square of an error by
the square: rows have their shares for weights. What a residual stream lacks is made up by the
token's experts in the same proportion. An expert that few tokens are routed to has a bad estimate
of its own, which moves towards that of other tokens (`SecondMoment.shrink_to`): all that come to
the experts of the block, and deeper in the expert a sample of these, which it computes for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import ordered_map
from lrc.calibrate.site_rows import (
    SiteRows,
    all_rows,
    centred,
    grouped,
    joined,
    routed_rows,
    sample_rows,
)
from lrc.calibrate.streams import Stream
from lrc.linalg.precision import is_wide
from lrc.linalg.row_moment import RowMoment, rows_are_few
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import ChunkMoment, TokenRows, chunk_moment, token_rows
from lrc.nn.routing import Dispatch

Array = NDArray[np.float32]
#: Moments of all tokens that come to the experts of a block, by the name of the value.
Shared = dict[str, SecondMoment]


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
        rows = centred(all_rows(student, original, gap=gap, token_weights=token_weights), centre)
        if rows_are_few(student.tokens, student.inputs[0].shape[-1]):
            return _row_moment(rows, student, original, gap=gap)
        return _moment(rows, student, original, threads, gap=gap, device=device)
    gap = gap and not student.all_experts
    own = () if student.all_experts else routed_rows(student, original, dispatch, gap=gap)
    routed = grouped(centred(own, centre))
    if _experts_rows_are_few(student, dispatch):
        few = _row_moment(routed, student, original, gap=gap)
        sample = centred(sample_rows(student, original, dispatch), centre)
        few.shrink_to([_of(rows) for rows in grouped(sample)])
        return few
    moment = _moment(routed, student, original, threads, gap=gap, device=device)
    known = {} if shared is None else shared
    moment.shrink_to(_of_others(student, original, threads, dispatch, known, device, centre))
    return moment


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
            rows = centred(all_rows(student, original, dispatch.source), centre)
            shared[dispatch.source] = _moment(rows, student, original, threads, device=device)
        return shared[dispatch.source].sums()
    sample = centred(sample_rows(student, original, dispatch), centre)
    if student.all_experts:
        return _moment(grouped(sample), student, original, threads, device=device).sums()
    few = joined(list(sample))
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
    parts: Iterable[SiteRows],
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

    def work(rows: SiteRows) -> ChunkMoment:
        return _of(rows).moments()

    if is_wide(n):  # moments of several chunks would not fit side by side
        for rows in parts:
            moment.add_rows(_of(rows), threads)
        return moment
    for part in ordered_map(work, parts, threads):
        moment.add(part)
    return moment


def _row_moment(
    parts: Iterable[SiteRows], student: Stream, original: Stream | None, *, gap: bool
) -> RowMoment:
    """The same of rows that are kept."""
    n, d = student.inputs[0].shape[-1], student.hidden[0].shape[-1]
    moment = RowMoment(n, cross=original is not None, residual_gap=d if gap else 0)
    for rows in parts:
        moment.add(_of(rows))
    return moment


def _of(rows: SiteRows) -> TokenRows:
    return token_rows(rows.z, rows.x, rows.gap, rows.weights)
