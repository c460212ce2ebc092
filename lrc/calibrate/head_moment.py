"""Second moment of what the head multiplies: the final hidden states of the original model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.calibrate.streams import Inputs
from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import chunk_moment
from lrc.models.base import Block, Model, Stack
from lrc.nn.linear import Linear
from lrc.nn.ops import LOGITS, STREAM, Multiply, Op, Pass, run

Array = NDArray[np.float32]

#: Tokens whose hidden states the moment is of, and at least so many for each of their channels.
LEAST_TOKENS = 4096
TOKENS_A_CHANNEL = 2


def head_moment(model: Model, inputs: Inputs, threads: int, progress: Progress) -> SecondMoment:
    """H = E[x x^T] of the inputs x of the head, from some of the examples, evenly drawn.

    Notes
    -----
    Cost: one forward pass of the tokens that are drawn, the larger of 4096 and two a channel.
    Memory: one block as float32, and their residual stream.
    """
    drawn = _drawn(inputs, max(LEAST_TOKENS, TOKENS_A_CHANNEL * model.hidden_size))
    last: list[Streams] = []

    def start(stack: Stack, chunks: Sequence[NDArray[Any]], given: Given) -> Streams:
        last.append(Streams(start_stream(stack, chunks, threads, given.student)))
        return last[-1]

    with progress.bar("final states", model.tensors.blocks, "block") as advance:
        walk_stacks(model, drawn, start, _Passing(advance), threads)
    ops, source = before_head(model.stacks[-1].tail())
    moment: SecondMoment | None = None
    for hidden in last[-1].student.hidden:
        values = run(ops, {STREAM: hidden}, Pass(np.arange(0)))
        rows = values[source].reshape(-1, hidden.shape[-1])
        moment = moment or SecondMoment(rows.shape[1])
        moment.add(chunk_moment(rows))
    model.release()
    assert moment is not None
    return moment


def before_head(tail: Sequence[Op]) -> tuple[tuple[Op, ...], str]:
    """What leads from the residual stream to the head's input, and the name of that value."""
    for i, op in enumerate(tail):
        if isinstance(op, Multiply):
            return tuple(tail[:i]), op.source
    raise TypeError(f"nothing multiplies before {LOGITS}")


def _drawn(inputs: Inputs, tokens: int) -> Inputs:
    """Examples of about so many tokens, evenly, the same of every stack; all if there are no more.

    Each example is a row of a chunk.
    """
    step = max(sum(chunk.size for chunk in inputs[-1]) // tokens, 1)
    rows = np.cumsum([0, *(len(chunk) for chunk in inputs[-1])])
    firsts = [int(-row % step) for row in rows[:-1]]
    return tuple(
        [chunk[first::step] for chunk, first in zip(of, firsts, strict=True) if first < len(chunk)]
        for of in inputs
    )


class _Passing:
    """A visitor that looks at nothing."""

    def __init__(self, advance: Any) -> None:
        self._advance = advance

    def begin(self, block: int) -> bool:
        """No block is to be visited."""
        return False

    def replay(self, block: int, dense: Block) -> Mapping[str, Linear]:
        """Leave every block as it is."""
        self._advance()
        return {}

    def visit(self, at: SiteAtWork) -> Mapping[str, Linear]:
        """Never asked."""
        raise NotImplementedError

    def end(self, block: int) -> None:
        """Never asked."""
