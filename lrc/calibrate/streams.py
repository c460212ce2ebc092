"""The two streams of activations: the original model's and the compressed prefix's.

Each holds, for every chunk of windows, the residual stream and what the current site and those
after it read; nothing else is kept, and only one block of each model is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.spool import Spool, memory_use
from lrc.base.threads import chunks, ordered_map
from lrc.models.base import Block
from lrc.nn.ops import STREAM, Multiply, Pass, Values

Array = NDArray[np.float32]

#: What runs through a model: for each of its stacks, the arrays that `Stack.start` takes, of each
#: chunk. Chunks of later stacks belong to those of the first.
Inputs: TypeAlias = Sequence[Sequence[NDArray[Any]]]

#: Tokens worked on together: the unit of parallel work, whatever the thread count.
CHUNK_TOKENS = 2048
#: Tokens that every expert of a block computes, for what becomes of them there.
SAMPLED_TOKENS = 512


@dataclass
class Stream:
    """Activations of one model between two sites; it moves on in place, chunk by chunk.

    ``values`` holds those of each chunk, by name, and ``site`` is the next site's operation. Each
    expert sees one token in ``every`` beside those that are its own (`Pass.every`); its moments are
    of all that it sees, alike, where ``all_experts`` are calibrated on every token. Memory: 4 bytes
    a token and channel, for the residual stream and what later sites read; the same memory is used
    from block to block, because arrays that come and go leave holes of a gigabyte in the heap.
    ``given`` are values that every block finds, of each chunk. With a ``spool`` the arrays lie in
    files, and are in memory while their chunk is worked on.
    """

    values: list[dict[str, Array]]
    given: Sequence[Values] = ()
    site: Multiply | None = None
    every: int = 0
    all_experts: bool = False
    spool: Spool | None = None
    _buffers: list[list[Array]] = field(default_factory=list, repr=False)

    @classmethod
    def start(
        cls, hidden: Iterable[Array], given: Sequence[Values] = (), *, all_experts: bool = False
    ) -> Stream:
        """A stream at the entrance of the first block; it owns the arrays from then on.

        They lie where `memory_use` says.
        """
        spool = memory_use().spool
        values = [{STREAM: h if spool is None else spool.copy(h)} for h in hidden]
        tokens = sum(math.prod(v[STREAM].shape[:-1]) for v in values)
        every = 1 if all_experts else max(tokens // SAMPLED_TOKENS, 1)
        buffers = [[v[STREAM].reshape(-1)] for v in values]
        made = cls(values, given, None, every, all_experts, spool, buffers)
        for chunk in range(len(values)):
            made.rest(chunk)
        return made

    def rest(self, chunk: int) -> None:
        """Give back the memory of a chunk that is not worked on for now, where it is spooled."""
        if self.spool is not None:
            self.spool.rest(self._buffers[chunk])

    def pass_of(self, chunk: int) -> Pass:
        """How a chunk passes through a block."""
        return Pass(np.arange(self.values[chunk][STREAM].shape[1]), every=self.every)

    @property
    def tokens(self) -> int:
        """Tokens of all chunks."""
        return sum(math.prod(hidden.shape[:-1]) for hidden in self.hidden)

    @property
    def sampled(self) -> int:
        """About how many tokens every expert computes; none more but by one a chunk."""
        return self.tokens // self.every + len(self.values) if self.every else 0

    @property
    def hidden(self) -> list[Array]:
        """The residual stream of each chunk, (b, T, hidden)."""
        return [values[STREAM] for values in self.values]

    @property
    def inputs(self) -> list[Array]:
        """Inputs (..., n) of the next site, of each chunk."""
        source = STREAM if self.site is None else self.site.source
        return [values[source] for values in self.values]

    def enter(self, block: Block, threads: int, like: Stream | None = None) -> Stream:
        """Move to the block's first site; returns itself.

        Its tokens have the experts that they have in the stream ``like`` it, which has moved there.
        """
        return self._move(block.enter, block.layers_of(0), threads, like)

    def step(
        self, block: Block, site_index: int, threads: int, like: Stream | None = None
    ) -> Stream:
        """Move through the linears of one site, to the next; returns itself. See `enter`."""
        last = site_index + 1 == len(block.sites)
        site = None if last else block.layers_of(site_index + 1)
        return self._move(partial(block.step, site_index), site, threads, like)

    def again(self, block: Block, hidden: Sequence[Array], threads: int) -> Stream:
        """Behind a block that is run whole from ``hidden``, before it; returns itself."""

        def work(chunk: int) -> dict[str, Array]:
            given = self.given[chunk] if self.given else {}
            positions = np.arange(hidden[chunk].shape[1])
            return {STREAM: block(hidden[chunk], positions, given=given)}

        for chunk, fresh in enumerate(ordered_map(work, range(len(hidden)), threads)):
            known, buffers = self._found(chunk), self._buffers[chunk]
            self.values[chunk] = _housed(fresh, known, buffers, self.spool)
            self.rest(chunk)
        return self

    def _move(
        self,
        through: Callable[[Values, Pass], dict[str, Array]],
        site: Multiply | None,
        threads: int,
        like: Stream | None,
    ) -> Stream:
        def work(chunk: int) -> dict[str, Array]:
            decided = {} if like is None else like.values[chunk]
            return through(self._found(chunk), replace(self.pass_of(chunk), decided=decided))

        for chunk, fresh in enumerate(ordered_map(work, range(len(self.values)), threads)):
            known, buffers = self._found(chunk), self._buffers[chunk]
            self.values[chunk] = _housed(fresh, known, buffers, self.spool)
            self.rest(chunk)
        self.site = site
        return self

    def _found(self, chunk: int) -> Values:
        """All values of a chunk, those that are given among them."""
        return {**self.given[chunk], **self.values[chunk]} if self.given else self.values[chunk]


def _housed(
    fresh: Values, before: Values, buffers: list[Array], spool: Spool | None = None
) -> dict[str, Array]:
    """The ``fresh`` values in the memory of those ``before``; ``buffers`` (work) is all of it.

    What did not change stays where it is. The others take the smallest buffer that is free and
    large enough; where none is, they bring their own, in place of the largest that is free, or get
    one of the ``spool``.
    """
    kept = {name: value for name, value in fresh.items() if value is before.get(name)}
    moving = {name: value for name, value in fresh.items() if name not in kept}
    # What still lies in a buffer must not be written over by a neighbour.
    moving = {
        name: value.copy()
        if any(np.may_share_memory(value, buffer) for buffer in buffers)
        else value
        for name, value in moving.items()
    }
    taken = {value.__array_interface__["data"][0] for value in kept.values()}
    free = sorted(
        (i for i, buffer in enumerate(buffers) if buffer.ctypes.data not in taken),
        key=lambda i: buffers[i].size,
    )
    result = dict(kept)
    for name, value in sorted(moving.items(), key=lambda item: -item[1].size):
        fitting = [
            i for i in free if buffers[i].size >= value.size and buffers[i].dtype == value.dtype
        ]
        if fitting:
            buffer = buffers[fitting[0]][: value.size].reshape(value.shape)
            np.copyto(buffer, value)
            free.remove(fitting[0])
            result[name] = buffer
            continue
        own = np.ascontiguousarray(value) if spool is None else spool.copy(value)
        if free:
            buffers[free.pop()] = own.reshape(-1)
        else:
            buffers.append(own.reshape(-1))
        result[name] = own
    return {name: result[name] for name in fresh}


def window_chunks(windows: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Windows (N, T) in chunks of about ``CHUNK_TOKENS`` tokens."""
    size = max(CHUNK_TOKENS // windows.shape[1], 1)
    return [windows[part] for part in chunks(len(windows), size)]
