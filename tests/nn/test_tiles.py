"""Tiles cover everything once, do not depend on threads, and change no result but rounding."""

from __future__ import annotations

import numpy as np
import pytest
from packed_cases import random_matrix
from packed_models import packed_model

from lrc.nn.engine.team import Team
from lrc.nn.linear import DenseLinear
from lrc.nn.packed import PackedLinear
from lrc.nn.tiles import (
    each_tile,
    in_tiles,
    integer_activations,
    integers_allowed,
    tile_threads,
)
from lrc.run.generate import Decoder
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference


def test_settings_end_with_their_block():
    assert not in_tiles()
    assert not integers_allowed()
    with tile_threads(Team(1)), integer_activations(True):
        assert in_tiles()
        assert integers_allowed()
    assert not in_tiles()
    assert not integers_allowed()


def test_errors_of_a_tile_are_passed_on():
    def fail(tile):
        raise OSError(tile)

    for threads in (1, 3):
        with tile_threads(Team(threads)), pytest.raises(OSError):
            each_tile(fail, [1, 2, 3])


def layers():
    rng = np.random.default_rng(12)
    yield DenseLinear(rng.standard_normal((300, 70)).astype(np.float32))
    for codebook in (("e8p", 2), ("trellis12", 2)):
        yield PackedLinear(random_matrix((304, 72), codebook))


@pytest.mark.parametrize("layer", list(layers()), ids=["dense", "lattice", "trellis"])
def test_any_number_of_threads_gives_the_same_bits(layer):
    x = np.random.default_rng(13).standard_normal((9, layer.shape[1])).astype(np.float32)
    whole = layer(x)
    with tile_threads(Team(1)):
        one = layer(x)
    assert_within(relative_difference(one, whole), factor_bound(layer.shape[1], np.float32))
    for threads in (2, 3):
        with tile_threads(Team(threads)):
            np.testing.assert_array_equal(layer(x), one)


@pytest.mark.parametrize("codebook", [("e8p", 2), ("uniform", 4), ("none", 0)], ids=str)
def test_prompts_of_blocks_do_not_depend_on_threads(codebook):
    model = packed_model({"num_key_value_heads": 2}, codebook=codebook)
    ids = np.random.default_rng(14).integers(0, 48, 150)
    one, three = (Decoder(model, len(ids), threads).advance(ids).copy() for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
