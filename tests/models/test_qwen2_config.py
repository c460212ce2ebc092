"""A Qwen2 configuration: what is read, what is harmless, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from model_families import FAMILIES

from lrc.errors import UnsupportedModelError
from lrc.models.qwen2 import KEYS, Qwen2Config

CONFIG = dict(FAMILIES["qwen2"]["grouped_tied"].config)
#: What is found in files of Qwen2 and Qwen2.5 models that are plain ones.
FOUND: dict[str, Any] = {
    "use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28,
    "use_mrope": False, "attention_dropout": 0.0, "use_cache": True, "attention_bias": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "qkv_bias": True,
    "rope_scaling": None, "layer_types": ["full_attention", "full_attention"],
}  # fmt: skip


def test_what_changes_nothing_is_accepted() -> None:
    assert Qwen2Config.from_dict(CONFIG | FOUND) == Qwen2Config.from_dict(CONFIG)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"use_sliding_window": False}, (0, 0)),
        ({"use_sliding_window": True}, (0, 16)),
        ({"use_sliding_window": True, "sliding_window": None}, (0, 0)),
        ({"use_sliding_window": True, "max_window_layers": 0}, (16, 16)),
        ({"use_sliding_window": True, "max_window_layers": None}, (0, 0)),
        ({"use_sliding_window": True, "layer_types": ["sliding_attention"] * 2}, (16, 16)),
    ],
)
def test_windows_are_in_the_upper_blocks(
    changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert Qwen2Config.from_dict(CONFIG | changes).windows == expected


def test_an_absent_window_has_a_default() -> None:
    silent = {key: value for key, value in CONFIG.items() if key != "sliding_window"}
    assert Qwen2Config.from_dict(silent | {"use_sliding_window": True}).windows == (0, 4096)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("use_mrope", True),
        ("mlp_bias", True),
        ("use_qk_norm", True),
        ("a_key_nobody_knows", 0),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        Qwen2Config.from_dict(CONFIG | {key: value})


def test_no_key_has_two_meanings() -> None:
    used, off, harmless = KEYS.used, set(KEYS.off), set(KEYS.harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)
