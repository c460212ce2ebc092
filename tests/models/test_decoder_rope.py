"""Rotary settings of files: what transformers makes of them (golden), or a refusal by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rope_cases import ROTARIES, SETTINGS, config
from tiny_llama import tiny_config

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models.decoder_config import decoder_fields
from lrc.models.decoder_keys import NO_ROTARY, ROPE_KEYS, decoder_keys
from lrc.models.decoder_rope import Rotary, read_layer_ropes, read_rope
from lrc.nn.rope import Rope, rope_tables
from lrc.nn.rope_scaling import Interpolation
from lrc.testing.tolerance import assert_within, eps

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden" / "rope.json").read_text())
#: Roundings of a power, a division and a ramp of YaRN, in float32 on each side.
ROUNDINGS = 16


def read(settings: Mapping[str, Any], rule: Rotary | Mapping[str, Rotary]) -> dict[str, Rope]:
    """Ropes by the kind of block; under an empty name where all blocks have the same."""
    head_dim = settings.get("head_dim", 16)
    if isinstance(rule, Rotary):
        return {"": read_rope(settings, "toy", head_dim, settings["max_position_embeddings"], rule)}
    longest = settings["max_position_embeddings"]
    return read_layer_ropes(settings, "toy", head_dim, longest, rule)


def ropes(name: str) -> dict[str, Rope]:
    return read(config(name), ROTARIES[SETTINGS[name][0]])


@pytest.mark.parametrize("name", SETTINGS)
def test_frequencies_are_those_of_transformers(name: str) -> None:
    golden = GOLDEN["cases"][name]["ropes"]
    found = ropes(name)
    assert set(found) == set(golden)
    for layer_type, rope in found.items():
        for length in GOLDEN["lengths"]:
            begun = max(int(n) for n in golden[layer_type] if int(n) <= length)
            expected = golden[layer_type][str(begun)]
            frequencies = np.array(expected["frequencies"])
            assert rope.frequencies(length).shape == frequencies.shape
            error = np.abs(rope.frequencies(length) / frequencies - 1).max()
            assert_within(error, ROUNDINGS * eps(np.float32), f"{name} at {length}")
            factor = rope.scaling.attention_factor
            assert factor == pytest.approx(expected["attention_factor"], rel=1e-12)
            cos, _ = rope_tables(rope, np.arange(length))
            assert cos[0] == pytest.approx(factor, rel=eps(np.float32))


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_as_transformers_saves_them_read_the_same(name: str) -> None:
    saved = {"head_dim": config(name).get("head_dim", 16), **GOLDEN["cases"][name]["saved"]}
    assert read(saved, ROTARIES[SETTINGS[name][0]]) == ropes(name)


def test_golden_cases_have_every_kind_on_both_sides_of_its_switch() -> None:
    found = {rope.scaling.kind for name in SETTINGS for rope in ropes(name).values()}
    assert found == set(ROPE_KEYS)
    changed = {
        rope.scaling.kind
        for name in SETTINGS
        for layer_type, rope in ropes(name).items()
        if len(GOLDEN["cases"][name]["ropes"][layer_type]) > 1
    }
    assert changed == {"dynamic", "longrope"}


def test_pairs_are_those_of_the_family() -> None:
    assert {name for name in SETTINGS for r in ropes(name).values() if r.interleaved} == {
        "default-interleaved"
    }


def test_dims_that_a_family_counts() -> None:
    rule = Rotary(dims=4, interleaved=True)
    assert read_rope({}, "toy", 16, 64, rule) == Rope(4, interleaved=True)
    assert read_rope({"rotary_dim": 12}, "toy", 16, 64, rule).head_dim == 12
    with pytest.raises(FormatError, match="turn 18 dims of head_dim=16"):
        read_rope({"rotary_dim": 18}, "toy", 16, 64, rule)


LINEAR = {"rope_type": "linear", "factor": 2.0}
YARN = {"rope_type": "yarn", "factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (YARN | {"beta_fast": 1.0}, "beta_slow=1.0 must be below beta_fast=1.0"),
        (YARN | {"beta_slow": -1}, "beta_slow=-1 must be"),
        ({"rope_type": "yarn"}, "factor=None must be"),
        (YARN | {"attention_factor": -0.5}, "attention_factor=-0.5"),
        (YARN | {"mscale": "one"}, "mscale='one'"),
        (YARN | {"truncate": "no"}, "truncate='no'"),
        (YARN | {"rope_theta": 1.0}, "rope_theta=1.0 must be above 1 for yarn"),
        (YARN | {"original_max_position_embeddings": 0}, "original_max_position_embeddings=0"),
        (YARN | {"factor": float("inf")}, "factor=inf"),
        (LONG | {"short_factor": [1.0] * 7}, "short_factor=[1.0, .* must be a list of 8 numbers"),
        (LONG | {"long_factor": None}, "long_factor=None must be a list of 8 numbers"),
        (LONG | {"long_factor": [1.0] * 7 + [0.0]}, "long_factor[7]=0.0"),
        (LONG | {"short_factor": [float("nan")] + [1.0] * 7}, "short_factor[0]=nan"),
        (LONG | {"short_factor": ["1"] + [1.0] * 7}, "short_factor[0]='1'"),
        (LONG | {"original_max_position_embeddings": 1}, "original_max_position_embeddings=1"),
        ({"rope_type": "dynamic", "factor": -1}, "factor=-1"),
        ({"rope_theta": 0}, "rope_theta=0"),
        ({"partial_rotary_factor": 0.1}, "turn 1 dims of head_dim=16"),
        ({"partial_rotary_factor": 0.05}, "turn 0 dims of head_dim=16"),
        ({"partial_rotary_factor": 1.5}, "turn 24 dims of head_dim=16"),
    ],
)
def test_malformed_settings_are_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_rope({"rope_scaling": given}, "toy", 16, 64, Rotary(partial=1.0))
    head, _, tail = words.partition(".* ")
    assert head in str(caught.value)
    assert tail in str(caught.value)


def test_dynamic_needs_more_than_one_pair() -> None:
    given = {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
    with pytest.raises(FormatError, match="more than 2 dims"):
        read_rope(given, "toy", 2, 64)


@pytest.mark.parametrize(
    "given",
    [
        {"mrope_section": [2, 3, 3]},
        {"rope_type": "default", "attention_factor": 1.5},
        {"rope_type": "linear", "factor": 2.0, "beta_fast": 32},
        {"rope_type": "dynamic", "factor": 2.0, "alpha": 1000.0},
        YARN | {"short_factor": [1.0] * 8},
        LONG | {"short_mscale": 1.2},
        {"partial_rotary_factor": 0.5},
    ],
)
def test_settings_that_would_be_left_out_are_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=list(given)[-1]):
        read_rope({"rope_scaling": given}, "toy", 16, 64)


def test_kinds_of_blocks_that_a_family_does_not_have_are_refused() -> None:
    rules = ROTARIES["gemma3_text"]
    assert isinstance(rules, Mapping)
    for given in ({"rope_theta": 5.0}, {"chunked_attention": {"rope_theta": 5.0}}):
        with pytest.raises(UnsupportedModelError, match=next(iter(given))):
            read_layer_ropes({"rope_parameters": given}, "toy", 16, 64, rules)


def test_a_family_with_several_reads_them_beside_what_decoders_share() -> None:
    used = ("rope_parameters", "rope_scaling", "rope_theta", "rope_local_base_freq")
    keys = decoder_keys("toy", used=used, spelled=NO_ROTARY)
    given = tiny_config(rope_theta=2e6, rope_local_base_freq=700.0, rope_scaling=LINEAR)
    fields = decoder_fields(given, keys)
    rules = ROTARIES["gemma3_text"]
    assert isinstance(rules, Mapping)
    found = read_layer_ropes(given, "toy", fields["head_dim"], fields["max_positions"], rules)
    assert fields["rope"] is None
    assert found == {
        "sliding_attention": Rope(8, 700.0),
        "full_attention": Rope(8, 2e6, Interpolation(2.0)),
    }
