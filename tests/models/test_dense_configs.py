"""Configurations of families close to Llama: what is read, harmless or refused, by name."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from config_cases import FOUND, GATE, REFUSED, WINDOWS
from families import ABSENT
from model_families import FAMILIES

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import MODELS


def read(family: str, **changes: Any) -> Any:
    """The configuration of a family's first case, with changes."""
    config = dict(next(iter(FAMILIES[family].values())).config) | changes
    given = {key: value for key, value in config.items() if value is not ABSENT}
    return MODELS[family].read(given)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", FOUND)
def test_what_changes_nothing_is_accepted(family: str) -> None:
    assert read(family, **FOUND[family]) == read(family)


@pytest.mark.parametrize(("family", "key", "value"), REFUSED)
def test_what_would_be_left_out_is_refused_by_name(family: str, key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        read(family, **{key: value})


@pytest.mark.parametrize("family", FOUND)
def test_a_key_that_nobody_knows_is_refused(family: str) -> None:
    with pytest.raises(UnsupportedModelError, match="a_key_nobody_knows"):
        read(family, a_key_nobody_knows=0)


@pytest.mark.parametrize("family", FOUND)
def test_no_key_has_two_meanings(family: str) -> None:
    keys = importlib.import_module(f"lrc.models.{family}").KEYS
    used, off, harmless = keys.used, set(keys.off), set(keys.harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)


@pytest.mark.parametrize(("family", "changes", "expected"), WINDOWS)
def test_the_window_of_each_block(
    family: str, changes: dict[str, Any], expected: tuple[int, ...]
) -> None:
    layers = {"num_hidden_layers": len(expected)}
    assert read(family, **layers | changes).windows == expected


def test_an_absent_cap_is_not_one_that_is_null() -> None:
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    silent = read("gemma2", **dict.fromkeys(caps, ABSENT))
    assert (silent.cap, silent.final_cap) == (50, 30)
    none = read("gemma2", **dict.fromkeys(caps))
    assert (none.cap, none.final_cap) == (0, 0)
    for key in caps:
        with pytest.raises(FormatError, match=f"{key}=0"):
            read("gemma2", **{key: 0})


def test_each_kind_of_block_has_its_rotary_positions() -> None:
    """Keys beside each other, in objects of their own, and absent."""
    beside = read("gemma3_text", rope_theta=500.0, rope_local_base_freq=50.0, rope_scaling=None)
    assert (beside.rope.theta, beside.local.theta) == (500, 50)
    kinds = {"full_attention": {"rope_theta": 300.0}, "sliding_attention": {"rope_theta": 30.0}}
    nested = read("gemma3_text", rope_parameters=kinds, rope_scaling=None)
    assert (nested.rope.theta, nested.local.theta) == (300, 30)
    keys = ("rope_theta", "rope_local_base_freq", "rope_scaling")
    silent = read("gemma3_text", **dict.fromkeys(keys, ABSENT))
    assert (silent.rope.theta, silent.local.theta) == (1e6, 1e4)


def test_theta_beside_rotary_settings_is_of_blocks_that_see_all() -> None:
    """As transformers has it; those with a window keep the default."""
    found = read("olmo3", rope_theta=300.0, rope_scaling=None)
    assert (found.rope.theta, found.local.theta) == (300, 5e5)
    silent = read("olmo3", rope_theta=ABSENT, rope_scaling=None)
    assert (silent.rope.theta, silent.local.theta) == (5e5, 5e5)


@pytest.mark.parametrize(
    ("family", "absent", "null"), [("seed_oss", True, False), ("glm", True, False)]
)
def test_an_absent_bias_is_not_one_that_is_null(family: str, absent: bool, null: bool) -> None:
    assert read(family, attention_bias=ABSENT).attention_bias == absent
    assert read(family, attention_bias=None).attention_bias == null


def test_a_pattern_in_letters_needs_layer_types() -> None:
    with pytest.raises(FormatError, match="sliding_window_pattern='LLLG'"):
        read("exaone4", sliding_window_pattern="LLLG")


def test_alpha_stretches_theta_once() -> None:
    theta = 1e4 * 50 ** (12 / 10)
    found = read("hunyuan_v1_dense").rope
    assert (found.theta, found.scaling.kind) == (pytest.approx(theta), "default")
    beside = {"type": "dynamic", "alpha": None, "factor": 2.0}
    assert read("hunyuan_v1_dense", rope_scaling={**beside}).rope.theta == 1e4


def test_which_blocks_are_not_rotated() -> None:
    assert read("smollm3", num_hidden_layers=3).rotated == (True, False, True)
    silent = read("smollm3", num_hidden_layers=5, no_rope_layer_interval=ABSENT)
    assert silent.rotated == (True, True, True, False, True)
    assert read("smollm3", no_rope_layers=[0, 1, 1]).rotated == (False, True)
    for given in ([1], [], [1, 2], "10", 4):
        with pytest.raises(FormatError, match="no_rope_layers="):
            read("smollm3", no_rope_layers=given)


def test_the_gate_of_the_first_files_of_gemma_is_the_other_one() -> None:
    gates = [read("gemma", hidden_act=name).activation for name in (GATE, "gelu", ABSENT, "silu")]
    assert gates == ["gelu_tanh", "gelu_tanh", "gelu_tanh", "silu"]


@pytest.mark.parametrize("key", ["embedding_multiplier", "residual_multiplier", "logits_scaling"])
@pytest.mark.parametrize("value", [0, -1.0, "1", True])
def test_a_multiplier_is_a_number_above_0(key: str, value: object) -> None:
    with pytest.raises(FormatError, match=f"{key}="):
        read("granite", **{key: value})
