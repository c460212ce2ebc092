"""Tiles cover everything once, do not depend on threads, and change no result but rounding."""

from __future__ import annotations

import numpy as np
import pytest
from packed_cases import random_matrix
from packed_models import packed_model

from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.nn.linear import DenseLinear
from lrc.nn.packed import PackedLinear
from lrc.run.generate import Decoder
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

IDS = np.random.default_rng(14).integers(0, 48, 150)


def test_errors_of_a_tile_are_passed_on():
    def fail(tile):
        raise OSError(tile)

    for threads in (1, 3):
        with pytest.raises(OSError):
            Execution(Team(threads)).each(fail, [1, 2, 3])


def layers():
    rng = np.random.default_rng(12)
    yield DenseLinear(rng.standard_normal((300, 70)).astype(np.float32))
    for codebook in (("e8p", 2), ("trellis12", 2)):
        yield PackedLinear(random_matrix((304, 72), codebook))


@pytest.mark.parametrize("layer", list(layers()), ids=["dense", "lattice", "trellis"])
def test_any_number_of_threads_gives_the_same_bits(layer):
    x = np.random.default_rng(13).standard_normal((9, layer.shape[1])).astype(np.float32)
    whole = layer(x)
    one = layer(x, Execution(Team(1)))
    assert_within(relative_difference(one, whole), factor_bound(layer.shape[1], np.float32))
    for threads in (2, 3):
        np.testing.assert_array_equal(layer(x, Execution(Team(threads))), one)


@pytest.mark.parametrize("codebook", [("e8p", 2), ("uniform", 4), ("none", 0)], ids=str)
def test_prompts_of_blocks_do_not_depend_on_threads(codebook):
    model = packed_model({"num_key_value_heads": 2}, codebook=codebook)

    one, three = (Decoder(model, len(IDS), threads).advance(IDS).copy() for threads in (1, 3))
    np.testing.assert_array_equal(one, three)


class Recording(Team):
    """A team that remembers whose tiles it was given."""

    def each(self, work, items):
        self.seen = getattr(self, "seen", set()) | {work.__qualname__.split(".")[0]}
        super().each(work, items)


def test_a_team_is_passed_to_everything_that_has_tiles():
    model, team = packed_model(codebook=("e8p", 2)), Recording(2)
    hidden = model.hidden(IDS[None], execution=Execution(team))
    assert team.seen >= {"attention", "gated", "_rotated", "Part"}
    team.seen = set()
    model.head(hidden, Execution(team))
    assert team.seen


def test_integers_are_for_the_head_alone():
    """After a prompt by blocks its inputs are rounded, as at any later token."""
    model = packed_model(codebook=("e8p", 2))
    exact = model.hidden(IDS[None], execution=Execution(Team(1)))[0, -1]
    rounded = model.head(exact, Execution(Team(1), integers=True))
    np.testing.assert_array_equal(Decoder(model, len(IDS)).advance(IDS), rounded)
    assert not np.array_equal(model.head(exact), rounded)
    assert_within(relative_difference(model.head(exact), rounded), 2.0**-12)
