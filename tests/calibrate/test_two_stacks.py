"""The walk through a stack that reads another's output, each stream its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from whisper_cases import CASES

from lrc.calibrate.walk import Given, SiteAtWork, Streams, replaced, start_stream, walk_stacks
from lrc.linalg.second_moment import SecondMoment
from lrc.models.base import Block, Stack
from lrc.models.whisper import WhisperModel
from lrc.nn.linear import Linear
from lrc.nn.memory import MEMORY
from lrc.testing.tolerance import relative_difference

CASE = CASES["uneven"]
SOUNDS, TEXTS = 3, (5, 9, 2)


@dataclass
class Scaler:
    """Halves every weight of the blocks that it is told to, and keeps what it sees."""

    halved: range
    begun: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    moments: dict[str, SecondMoment] = field(default_factory=dict)

    def begin(self, block: int) -> bool:
        self.begun.append(block)
        return True

    def replay(self, block: int, dense: Block) -> Mapping[str, Linear]:
        raise AssertionError

    def visit(self, at: SiteAtWork) -> Mapping[str, Linear]:
        self.names.append(at.name)
        self.moments[at.name] = at.moment()
        if at.block not in self.halved:
            return {}
        return {key: replaced(at.dense, key, at.weight(key) / 2) for key in at.site.linears}

    def end(self, block: int) -> None:
        pass


def walked(model: WhisperModel, visitor: Scaler, threads: int) -> tuple[Streams, Given]:
    """Both stacks on utterances whose texts differ in length."""
    features = [CASE.features(seed, 1) for seed in range(SOUNDS)]
    ids = [CASE.ids(seed, 1, length) for seed, length in enumerate(TEXTS)]
    begun: list[tuple[Streams, Given]] = []

    def start(stack: Stack, inputs: Sequence[np.ndarray], given: Given) -> Streams:
        streams = Streams(
            start_stream(stack, inputs, threads, given.student),
            start_stream(stack, inputs, threads, given.original),
        )
        begun.append((streams, given))
        return streams

    walk_stacks(model, (features, ids), start, visitor, threads)
    return begun[-1]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_walk_that_changes_nothing_is_the_forward_pass(threads):
    model = CASE.model(1)
    visitor = Scaler(range(0))
    streams, _ = walked(model, visitor, threads)
    assert visitor.begun == list(range(model.tensors.blocks))
    assert len(set(visitor.names)) == len(visitor.names) == 3 * 4 + 7
    for seed, length in enumerate(TEXTS):
        cache = model.listen(CASE.features(seed, 1), length)
        expected = model.hidden(CASE.ids(seed, 1, length), cache)
        for stream in (streams.student, streams.original):
            np.testing.assert_array_equal(stream.hidden[seed], expected)


def test_the_second_stack_hears_what_its_own_stream_has_made():
    """A compressed encoder is what the compressed decoder listens to."""
    model = CASE.model(1)
    streams, given = walked(model, Scaler(range(3)), 1)
    memories = [[of[MEMORY] for of in found] for found in (given.student, given.original)]
    assert relative_difference(memories[0][0], memories[1][0]) > 0.05
    plain, _ = walked(model, Scaler(range(0)), 1)
    for mine, others in zip(streams.original.hidden, plain.original.hidden, strict=True):
        np.testing.assert_array_equal(mine, others)
    assert relative_difference(streams.student.hidden[1], plain.student.hidden[1]) > 0.01


def test_moments_of_what_is_heard_are_those_of_the_memory():
    """All its positions count, whatever the length of the text."""
    model = CASE.model(1)
    visitor = Scaler(range(0))
    _, given = walked(model, visitor, 1)
    heard = np.concatenate([of[MEMORY].reshape(-1, 30) for of in given.student]).astype(np.float64)
    moment = visitor.moments["model.decoder.layers.0.cross_memory"]
    assert moment.rows == SOUNDS * CASE.config["max_source_positions"]
    expected = heard.T @ heard / len(heard)
    assert relative_difference(moment.matrix(), expected) < 1e-5
    assert visitor.moments["model.decoder.layers.0.cross_query"].rows == sum(TEXTS)
