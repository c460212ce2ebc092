"""The walk through a stack: block by block, site by site, with what visitors do at each.

Compressing and surveying are visitors. This is the only loop over blocks and sites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import ordered_map
from lrc.calibrate.site_moment import MomentOptions, Routed, Shared, routed_to, site_moment
from lrc.calibrate.streams import Inputs, Stream
from lrc.calibrate.taught import Learner, Taught
from lrc.linalg.row_moment import RowMoment
from lrc.linalg.second_moment import SecondMoment
from lrc.models.base import Block, Model, Site, Stack
from lrc.models.source import WeightSource, give_back_pages
from lrc.models.tensors import linear_of
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import DenseLinear, Linear, make_linear
from lrc.nn.memory import MEMORY
from lrc.nn.ops import Values

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Given:
    """What blocks of a stack find beside its own streams, of each chunk: the memory of another."""

    student: Sequence[Values] = ()
    original: Sequence[Values] = ()


@dataclass(frozen=True)
class Streams:
    """Activations of the walk; they move on in place.

    ``student`` runs the blocks with what visitors put into them, and ``original``, where it is
    wanted too, the blocks as they are. Then the student's tokens have the experts that they have in
    the original, with its shares, so that rows of both are of the same tokens: the router is exact,
    and it is for its input to come close to the original's, not for an expert to learn of others'
    tokens.
    """

    student: Stream
    original: Stream | None = None

    def enter(self, block: Block, threads: int) -> None:
        """Move to the first site of a block."""
        if self.original is not None:
            self.original.enter(block, threads)
        self.student.enter(block, threads, like=self.original)

    def step(self, student: Block, original: Block, site_index: int, threads: int) -> None:
        """Move through the linears of one site, to the next."""
        if self.original is not None:
            self.original.step(original, site_index, threads)
        self.student.step(student, site_index, threads, like=self.original)

    def hidden(self) -> tuple[list[F32], list[F32]]:
        """Copies of both residual streams; the student's twice where there is no other."""
        student = [h.copy() for h in self.student.hidden]
        original = self.original
        return student, student if original is None else [h.copy() for h in original.hidden]

    def taught(self, before: tuple[Sequence[F32], Sequence[F32]]) -> Taught:
        """What the block between `hidden` and here may learn from."""
        original = self.original or self.student
        given = (self.student.given, original.given)
        return Taught(tuple(zip(before, given, strict=True)), original.hidden)

    def finish(self, stack: Stack, threads: int) -> Given:
        """What the next stack is given, behind the last block of this one."""
        student = _memories(stack, self.student, threads)
        original = self.original and _memories(stack, self.original, threads)
        return Given(student, original or ())


def start_stream(
    stack: Stack,
    inputs: Sequence[NDArray[Any]],
    threads: int,
    given: Sequence[Values] = (),
    *,
    all_experts: bool = False,
) -> Stream:
    """Inputs of a stack, chunk by chunk, before its first block; see `Stream` for the rest."""
    hidden = ordered_map(stack.start, inputs, threads)
    return Stream.start(hidden, given, all_experts=all_experts)


def _memories(stack: Stack, stream: Stream, threads: int) -> list[Values]:
    return [{MEMORY: made} for made in ordered_map(stack.finish, stream.hidden, threads)]


@dataclass(frozen=True)
class SiteAtWork:
    """A site whose inputs are there: what a visitor looks at.

    Attributes
    ----------
    block : int
        Place of the block among those of all stacks.
    site : Site
    name : str
        Of the site, in the whole model.
    dense : Block
        As it is stored: a weight is read once, when it is first looked at.
    tensors : mapping
        Names of the weights' tensors, by key.
    streams : Streams
    threads : int
        Never changes a result.
    shared : mapping
        Work: moments that sites of the block share.
    """

    block: int
    site: Site
    name: str
    dense: Block
    tensors: Mapping[str, str]
    streams: Streams
    threads: int
    shared: Shared

    def weight(self, key: str) -> F32:
        """The weight of a linear layer of the site, (m, n) float32; not to be written to."""
        return dense_weight(self.dense, key)

    def moment(self, **options: Unpack[MomentOptions]) -> SecondMoment | RowMoment:
        """Second moments of the site's inputs, made anew; see `site_moment`."""
        student, original = self.streams.student, self.streams.original
        return site_moment(student, original, self.threads, shared=self.shared, **options)

    @property
    def routed(self) -> Routed | None:
        """What is routed to the site's expert; None where it is of none."""
        return routed_to(self.streams.student)


class Visitor(Protocol):
    """What is done on a walk."""

    def begin(self, block: int) -> bool:
        """Whether the sites of a block are to be visited; else they were, in an earlier run."""
        ...

    def replay(self, block: int, dense: Block) -> Mapping[str, Linear]:
        """Return what the student runs in a block visited earlier; layers not named stay."""
        ...

    def visit(self, at: SiteAtWork) -> Mapping[str, Linear]:
        """Work on a site; return what the student is to run there, by key."""
        ...

    def end(self, block: int) -> None:
        """Finish a block all of whose sites were visited; the streams are behind it."""
        ...


def walk(
    stack: Stack,
    streams: Streams,
    visitor: Visitor,
    threads: int,
    learner: Learner | None = None,
    source: WeightSource | None = None,
) -> None:
    """Take streams through a stack, bottom first, past a visitor.

    Visitors know a block by its place among those of all stacks. With a ``learner`` every block
    that was visited is adapted before the student runs it.

    Memory: the matrices of one site as float32, what the visitor puts in their place, the streams,
    and what is mapped of the block in the weight files of the stack's ``source``.
    """
    for index in range(len(stack)):
        place = stack.first + index
        fresh = visitor.begin(place)
        _through(stack, index, streams, visitor, threads, learner, fresh=fresh)
        if fresh:
            visitor.end(place)
        if source is not None:
            give_back_pages(source)


def walk_stacks(
    model: Model,
    inputs: Inputs,
    start: Callable[[Stack, Sequence[NDArray[Any]], Given], Streams],
    visitor: Visitor,
    threads: int,
    learner: Learner | None = None,
) -> None:
    """Take streams through the stacks of a model; one behind another is given its memory.

    ``start`` makes the streams of a stack from its inputs and what it is given.
    """
    given = Given()
    for stack, chunks in zip(model.stacks, inputs, strict=True):
        streams = start(stack, chunks, given)
        walk(stack, streams, visitor, threads, learner, model.source)
        if stack is not model.stacks[-1]:
            given = streams.finish(stack, threads)


def _through(
    stack: Stack,
    index: int,
    streams: Streams,
    visitor: Visitor,
    threads: int,
    learner: Learner | None,
    *,
    fresh: bool,
) -> None:
    """Through one block, of which nothing is left in memory.

    With a ``learner`` the student runs what was learned from what it had before the block, in the
    run that has learned it as in one that goes on from there: both give the same bits.
    """
    dense = stack.load_block(index, later=True)
    known = {} if fresh else visitor.replay(stack.first + index, dense)
    student = dense.with_linears(known)
    before = None if learner is None else streams.hidden()
    streams.enter(dense, threads)
    shared: Shared = {}
    for site_index, site in enumerate(dense.sites):
        if fresh:
            at = _at_work(stack, index, site, dense, streams, threads, shared)
            student = student.with_linears(visitor.visit(at))
        streams.step(student, dense, site_index, threads)
        passed = {key: _Passed(dense.linears[key].shape) for key in site.linears}
        dense, student = dense.with_linears(passed), student.with_linears(passed)
    if learner is not None and before is not None:
        if fresh:
            known = learner(stack.first + index, dense, streams.taught(before))
        streams.student.again(dense.with_linears(known), before[0], threads)


class _Passed:
    """In place of a linear layer that both streams have passed: its weights are let go."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    def __call__(self, x: F32, execution: Execution = PLAIN) -> F32:
        """Not computed."""
        raise RuntimeError("this layer was passed already")


def _at_work(
    stack: Stack,
    index: int,
    site: Site,
    dense: Block,
    streams: Streams,
    threads: int,
    shared: Shared,
) -> SiteAtWork:
    names = stack.linears(index)
    first = site.linears[0]
    prefix = linear_of(names[first]).removesuffix(first)
    return SiteAtWork(
        block=stack.first + index,
        site=site,
        name=prefix + site.name,
        dense=dense,
        tensors={key: names[key] for key in site.linears},
        streams=streams,
        threads=threads,
        shared=shared,
    )


def dense_weight(block: Block, key: str) -> F32:
    """The weight (m, n) float32 of a linear layer of a block that is not compressed."""
    linear = block.linears[key]
    if not isinstance(linear, DenseLinear):
        raise TypeError(f"the layer {key} is a {type(linear).__name__}, not dense")
    return linear.weight


def replaced(block: Block, key: str, weight: F32, bias: F32 | None = None) -> Linear:
    """The linear layer ``key`` of a block on another weight, with a new bias or that it has."""
    if bias is None:
        bias = getattr(block.linears[key], "bias", None)
    return make_linear(weight, bias)
