"""Configurations of families with the block of GPT-2: what is read, harmless or refused."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from model_families import FAMILIES

from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.models import MODELS

#: What published files hold beside shapes, in models that are plain ones.
FOUND: dict[str, dict[str, Any]] = {
    "opt": {
        "_remove_final_layer_norm": False, "activation_dropout": 0.0, "layerdrop": 0.0,
        "do_layer_norm_before": True, "word_embed_proj_dim": 32, "prefix": "</s>",
        "init_std": 0.02, "dropout": 0.1, "layer_norm_elementwise_affine": True,
    },
    "starcoder2": {
        "embedding_dropout": 0.0, "residual_dropout": 0.0, "mlp_type": "default",
        "norm_type": "layer_norm", "initializer_range": 0.018042, "layer_norm_epsilon": 1e-5,
    },
}  # fmt: skip
REFUSED: list[tuple[str, str, object]] = [
    ("opt", "do_layer_norm_before", False),
    ("opt", "_remove_final_layer_norm", True),
    ("opt", "layer_norm_elementwise_affine", False),
    ("opt", "word_embed_proj_dim", 16),
    ("opt", "activation_function", "quick_gelu"),
    ("opt", "num_key_value_heads", 2),
    ("opt", "rope_theta", 1e4),
    ("opt", "rms_norm_eps", 1e-6),
    ("starcoder2", "hidden_act", "mish"),
    ("starcoder2", "rms_norm_eps", 1e-6),
    ("starcoder2", "mlp_bias", True),
]


def plain(family: str) -> dict[str, Any]:
    return dict(next(iter(FAMILIES[family].values())).config)


def read(family: str, **changes: Any) -> Any:
    """The configuration of a family's first case, with changes."""
    return MODELS[family].read(plain(family) | changes)  # type: ignore[attr-defined]


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


def test_a_message_names_the_key_that_the_family_has() -> None:
    with pytest.raises(FormatError, match="ffn_dim=0"):
        read("opt", ffn_dim=0)
    with pytest.raises(FormatError, match="hidden_size=32 must be a multiple of num_attention_h"):
        read("opt", num_attention_heads=3)


def test_a_width_of_its_own_is_no_other_key() -> None:
    with pytest.raises(LrcError, match="intermediate_size"):
        read("opt", intermediate_size=56)
    config = plain("opt")
    del config["ffn_dim"]
    with pytest.raises(LrcError, match="intermediate_size"):
        MODELS["opt"].declared(config | {"intermediate_size": 56})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"tie_word_embeddings": None}, False), ({"tie_word_embeddings": False}, False)],
)
def test_ties_are_the_default_of_these(changes: dict[str, Any], expected: bool) -> None:
    for family in ("opt", "starcoder2"):
        config = {k: v for k, v in plain(family).items() if k != "tie_word_embeddings"}
        tables = MODELS[family].declared(config | changes).tables
        assert ("head" not in tables) == expected
