"""Configurations of Qwen's mixtures of experts: what is read, harmless, or refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from model_families import FAMILIES

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import qwen2_moe, qwen3_moe
from lrc.models.experts import MoeConfig

READ = {
    "qwen2_moe": qwen2_moe.Qwen2MoeConfig.from_dict,
    "qwen3_moe": qwen3_moe.Qwen3MoeConfig.from_dict,
}
KEYS = {"qwen2_moe": qwen2_moe.KEYS, "qwen3_moe": qwen3_moe.KEYS}
families = pytest.mark.parametrize("family", READ)


def read(family: str, **changes: Any) -> MoeConfig:
    return READ[family](dict(FAMILIES[family]["plain"].config) | changes)


@families
def test_blocks_without_experts_are_those_that_transformers_has(family: str) -> None:
    """Every step-th block has them, counted from one, unless it is named."""
    for step, named, dense in ((1, None, ()), (2, [], (0, 2, 4)), (3, [2], (0, 1, 2, 3, 4))):
        found = read(family, num_hidden_layers=5, decoder_sparse_step=step, mlp_only_layers=named)
        assert found.dense == set(dense)
    assert read(family, mlp_only_layers=[1, 77]).dense == {1}


@families
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("decoder_sparse_step", 0),
        ("mlp_only_layers", "all"),
        ("mlp_only_layers", [True]),
        ("num_experts", 0),
        ("num_experts_per_tok", 99),
        ("moe_intermediate_size", -1),
        ("norm_topk_prob", "yes"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(family: str, key: str, value: object) -> None:
    with pytest.raises(FormatError, match=f"{key}="):
        read(family, **{key: value})


@families
@pytest.mark.parametrize("key", ["n_routed_experts", "router_bias", "n_shared_experts"])
def test_a_key_of_other_mixtures_is_refused_by_name(family: str, key: str) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        read(family, **{key: 2})


@families
def test_no_key_has_two_meanings(family: str) -> None:
    used, off, harmless = KEYS[family].used, set(KEYS[family].off), set(KEYS[family].harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)


def test_both_names_of_the_count_must_agree() -> None:
    assert read("qwen3_moe", num_local_experts=8).experts.count == 8
    with pytest.raises(FormatError, match="num_experts=8 and num_local_experts=9"):
        read("qwen3_moe", num_local_experts=9)
    with pytest.raises(UnsupportedModelError, match="num_local_experts"):
        read("qwen2_moe", num_local_experts=6)


def test_windows_of_qwen2_moe_are_in_every_other_lower_block() -> None:
    wide = {"use_sliding_window": True, "sliding_window": 5, "num_hidden_layers": 6}
    assert read("qwen2_moe", **wide, max_window_layers=4).windows == (5, 0, 5, 0, 0, 0)
    assert read("qwen2_moe", **wide, max_window_layers=0).windows == (0,) * 6
    kinds = ["full_attention"] * 5 + ["sliding_attention"]
    assert read("qwen2_moe", **wide, layer_types=kinds).windows == (0, 0, 0, 0, 0, 5)
    assert read("qwen2_moe").windows == (0, 0)
    assert read("qwen3_moe", **wide, max_window_layers=4).windows == (5,) * 6


@pytest.mark.parametrize(
    ("family", "case", "change"),
    [
        ("qwen2_moe", "plain", {"norm_topk_prob": True}),
        ("qwen2_moe", "normalised", {"norm_topk_prob": False}),
        ("qwen2_moe", "windows", {"max_window_layers": 3}),
        ("qwen3_moe", "plain", {"norm_topk_prob": False}),
        ("qwen3_moe", "windows", {"sliding_window": 8}),
    ],
)
def test_the_golden_logits_tell_them_apart(family: str, case: str, change: dict[str, Any]) -> None:
    """Another value changes them by far more than parity tolerates."""
    golden = FAMILIES[family][case]
    seed, ids, logits = golden.logits()
    other = dataclasses.replace(golden, config={**golden.config, **change})
    assert np.abs(other.model(seed).logits(ids) - logits).max() > 1e-2 * np.abs(logits).max()
