"""Configurations of state-space models: what is read, what is harmless, what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from model_families import FAMILIES

from lrc.errors import FormatError, NumericalError, SpecError, UnsupportedModelError
from lrc.models import falcon_mamba, load_model, mamba, mamba2
from lrc.models.falcon_mamba import FalconMambaConfig
from lrc.models.mamba import MambaConfig
from lrc.models.mamba2 import Mamba2Config
from lrc.models.state_space_config import MAX_POSITIONS

CONFIGS = {"mamba": MambaConfig, "falcon_mamba": FalconMambaConfig, "mamba2": Mamba2Config}
KEYS = {"mamba": mamba.KEYS, "falcon_mamba": falcon_mamba.KEYS, "mamba2": mamba2.KEYS}
families = pytest.mark.parametrize("family", CONFIGS)
#: What is found in files of models that are plain ones.
FOUND: dict[str, Any] = {
    "fused_add_norm": True, "residual_in_fp32": True, "rms_norm": True, "ssm_cfg": {},
    "rescale_prenorm_residual": False, "time_step_floor": 1e-4, "time_step_init_scheme": "random",
    "time_step_max": 0.1, "time_step_min": 0.001, "time_step_scale": 1.0, "use_cache": True,
    "pad_vocab_size_multiple": 8, "pad_token_id": 0, "torch_dtype": "float32", "use_mambapy": False,
    "d_model": 768, "d_inner": 1536, "n_layer": 24, "initializer_range": 0.1,
}  # fmt: skip


def plain(family: str) -> dict[str, Any]:
    return dict(FAMILIES[family]["plain"].config)


def read(family: str, config: Mapping[str, Any]) -> Any:
    return CONFIGS[family].from_dict(config)


@families
def test_what_changes_nothing_is_accepted(family: str) -> None:
    own = {"chunk_size": 8, "norm_before_gate": True} if family == "mamba2" else {}
    assert read(family, plain(family) | FOUND | own) == read(family, plain(family))


@families
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "gelu"),
        ("rms_norm", False),
        ("ssm_cfg", {"layer": "Mamba2"}),
        ("attn_layer_idx", [3]),
        ("num_attention_heads", 4),
        ("quantization_config", {"bits": 4}),
        ("a_key_nobody_knows", 0),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(family: str, key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        read(family, plain(family) | {key: value})


@families
@pytest.mark.parametrize("key", ["state_size", "conv_kernel", "expand", "layer_norm_epsilon"])
def test_what_is_not_what_its_name_says_is_refused(family: str, key: str) -> None:
    for value in (0, -1, "4", [4]):
        with pytest.raises(FormatError, match=key):
            read(family, plain(family) | {key: value})


@families
def test_no_key_has_two_meanings(family: str) -> None:
    keys = KEYS[family]
    used, off, harmless = keys.used, set(keys.off), set(keys.harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba"])
def test_the_rank_of_steps_and_the_width_may_be_given(family: str) -> None:
    config = plain(family) | {"hidden_size": 50}
    config.pop("intermediate_size", None)
    for automatic in ({"time_step_rank": "auto"}, {"time_step_rank": None}):
        assert read(family, config | automatic).rank == 4
    assert read(family, config | {"time_step_rank": 7}).rank == 7
    assert read(family, config | {"expand": 3}).inner == 150
    assert read(family, config | {"expand": 16, "intermediate_size": 90}).inner == 90
    with pytest.raises(FormatError, match="time_step_rank='some' must be an integer"):
        read(family, config | {"time_step_rank": "some"})
    with pytest.raises(FormatError, match=r"expand=0\.01 leaves no channel"):
        read(family, config | {"expand": 0.01})
    with pytest.raises(FormatError, match=r"expand=1e\+308 leaves no channel, or too many"):
        read(family, config | {"expand": 1e308})


@pytest.mark.parametrize("endless", [math.inf, {"__float__": "Infinity"}])
def test_step_sizes_may_be_unlimited(endless: object) -> None:
    config = plain("mamba2")
    expected = read("mamba2", config)
    assert (expected.least_step, expected.most_step) == (0, math.inf)
    assert read("mamba2", config | {"time_step_limit": [0.0, endless]}) == expected
    assert read("mamba2", config | {"time_step_limit": None}) == expected


@pytest.mark.parametrize(
    "limit", [3, [1], [1, 2, 3], [2, 1], [-1, 1], ["a", 1], [{}, 1], [0, math.nan]]
)
def test_other_limits_are_refused(limit: object) -> None:
    with pytest.raises(FormatError, match=r"time_step_limit=.* must be two numbers"):
        read("mamba2", plain("mamba2") | {"time_step_limit": limit})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 7}, "num_heads=7 of head_dim=16 must be"),
        ({"n_groups": 4}, "multiple of n_gr"),
    ],
)
def test_heads_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read("mamba2", plain("mamba2") | changes)


@families
def test_texts_are_as_long_as_memory_allows(family: str) -> None:
    model = FAMILIES[family]["plain"].model(3)
    assert model.context == MAX_POSITIONS
    model.check_length(MAX_POSITIONS)
    with pytest.raises(SpecError, match="exceed the model's context"):
        model.check_length(MAX_POSITIONS + 1)


@families
def test_the_cache_is_as_small_for_any_length(family: str) -> None:
    model = FAMILIES[family]["plain"].model(3)
    short, long = model.new_cache(2, 1), model.new_cache(2, MAX_POSITIONS)
    assert not short.layers
    assert len(short.states) == 2 * model.config.layers  # type: ignore[attr-defined]
    for name, state in long.states.items():
        assert state.shape == short.states[name].shape
        assert not state.any()


@families
def test_a_pass_that_was_not_finished_leaves_no_trace(family: str) -> None:
    """Blocks may run the same tokens again until the cache is told to go on."""
    model = FAMILIES[family]["plain"].model(3)
    ids = np.random.default_rng(5).integers(0, model.vocab_size, (1, 9))
    expected = model.logits(ids, model.new_cache(1, 9))
    cache = model.new_cache(1, 9)
    model.logits(ids[:, :4], cache)
    positions = np.arange(4, 6)
    model.blocks[0](model.embed(ids[:, 4:6]), positions, cache)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        model.logits(ids[:, 4:], cache), expected[:, 4:], rtol=1e-4, atol=1e-4
    )


@families
def test_decays_that_are_no_numbers_are_refused(family: str) -> None:
    case = FAMILIES[family]["plain"]
    source = case.source(3)
    source.weights["backbone.layers.1.mixer.A_log"].reshape(-1)[1] = np.nan
    with pytest.raises(NumericalError, match=r"A_log of block 1 has values that are not finite"):
        load_model(source).logits(np.arange(4)[None])
