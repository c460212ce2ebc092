"""The one loop over blocks and sites: what visitors see, and what becomes of what they return."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from tiny_llama import tiny_model

from lrc.calibrate.streams import window_chunks
from lrc.calibrate.walk import SiteAtWork, Streams, dense_weight, replaced, start_stream, walk
from lrc.models.base import Block
from lrc.nn.linear import Linear

IDS = np.random.default_rng(5).integers(0, 48, (5, 12))


@dataclass
class Halving:
    """Halves every weight, and notes what it sees; ``done`` are blocks that it halved before."""

    done: tuple[int, ...] = ()
    seen: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    moments: list[np.ndarray] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def begin(self, block: int) -> bool:
        return block not in self.done

    def replay(self, block: int, dense: Block) -> dict[str, Linear]:
        return {key: self._half(dense, key) for key in dense.linears}

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        self.seen.append((at.name, tuple(at.tensors.values())))
        self.moments.append(at.moment().matrix())
        assert all(at.weight(key) is dense_weight(at.dense, key) for key in at.site.linears)
        return {key: self._half(at.dense, key) for key in at.site.linears}

    def end(self, block: int) -> None:
        self.ended.append(block)

    @staticmethod
    def _half(block: Block, key: str) -> Linear:
        return replaced(block, key, dense_weight(block, key) / 2)


def walked(visitor: Halving, threads: int = 1, two: bool = True) -> Streams:
    (stack,) = tiny_model(3, attention_bias=True).stacks
    original = start_stream(stack, window_chunks(IDS), threads) if two else None
    streams = Streams(start_stream(stack, window_chunks(IDS), threads), original)
    walk(stack, streams, visitor, threads)
    return streams


def test_every_site_is_visited_once_bottom_first_under_its_name() -> None:
    visitor = Halving()
    walked(visitor)
    model = tiny_model(3, attention_bias=True)
    assert [tensors for _, tensors in visitor.seen] == [
        tuple(model.stacks[0].linears(block)[key] for key in site.linears)
        for block in range(2)
        for site in model.blocks[block].sites
    ]
    # Signs are drawn from these names: other names are other bytes.
    assert visitor.seen[0][0] == "model.layers.0.attn_input"
    assert visitor.seen[7][0] == "model.layers.1.mlp_output"
    assert visitor.ended == [0, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_student_runs_what_the_visitor_returns_and_the_original_nothing_else(
    threads: int,
) -> None:
    streams = walked(Halving(), threads)
    model = tiny_model(3, attention_bias=True)
    positions = np.arange(IDS.shape[1])
    h = student = model.embed(IDS)
    for block in model.blocks:
        h = block(h, positions)
        half = {key: Halving._half(block, key) for key in block.linears}
        student = block.with_linears(half)(student, positions)
    assert streams.original is not None
    np.testing.assert_array_equal(np.concatenate(streams.original.hidden), h)
    np.testing.assert_array_equal(np.concatenate(streams.student.hidden), student)
    assert not np.array_equal(h, student)


@pytest.mark.parametrize("done", [(0,), (0, 1)])
def test_blocks_done_before_are_replayed_and_not_visited(done: tuple[int, ...]) -> None:
    whole, rest = Halving(), Halving(done)
    a, b = walked(whole), walked(rest)
    for mine, other in zip(a.student.hidden, b.student.hidden, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert rest.seen == whole.seen[4 * len(done) :]
    assert rest.ended == [block for block in (0, 1) if block not in done]
    for mine, other in zip(whole.moments[4 * len(done) :], rest.moments, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_visitor_that_returns_nothing_leaves_the_model_as_it_is() -> None:
    class Silent(Halving):
        def visit(self, at: SiteAtWork) -> dict[str, Linear]:
            return {}

    streams = walked(Silent(), two=False)
    hidden = tiny_model(3, attention_bias=True).hidden(IDS)
    np.testing.assert_array_equal(np.concatenate(streams.student.hidden), hidden)
