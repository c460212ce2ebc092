"""A Mistral configuration: its window, what is harmless, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from model_families import FAMILIES
from random_weights import MemorySource, random_weights

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import declared, load_model
from lrc.models.mistral import KEYS, MistralConfig

CASES = FAMILIES["mistral"]
CONFIG = dict(CASES["window"].config)


@pytest.mark.parametrize("found", [{"use_sliding_window": False}, {"max_window_layers": 28}])
def test_what_changes_nothing_is_accepted(found: dict[str, Any]) -> None:
    assert MistralConfig.from_dict(CONFIG | found) == MistralConfig.from_dict(CONFIG)


def test_an_absent_window_is_not_one_that_is_null() -> None:
    silent = {key: value for key, value in CONFIG.items() if key != "sliding_window"}
    assert MistralConfig.from_dict(silent).windows == (4096, 4096)
    assert MistralConfig.from_dict(silent | {"sliding_window": None}).windows == (0, 0)
    assert MistralConfig.from_dict(CONFIG).windows == (7, 7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("attention_bias", True),
        ("num_local_experts", 8),
        ("a_key_nobody_knows", 0),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        MistralConfig.from_dict(CONFIG | {key: value})


@pytest.mark.parametrize("window", [0, -1, 2.5, True, "all"])
def test_a_window_is_a_number_of_tokens(window: object) -> None:
    with pytest.raises(FormatError, match="sliding_window="):
        MistralConfig.from_dict(CONFIG | {"sliding_window": window})


def test_no_key_has_two_meanings() -> None:
    used, off, harmless = KEYS.used, set(KEYS.off), set(KEYS.harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)


def test_the_golden_logits_tell_windows_apart() -> None:
    """Another width by one changes them by far more than parity tolerates."""
    seed, ids, logits = CASES["window"].logits()
    config = CONFIG | {"sliding_window": 8}
    model = load_model(MemorySource(config, random_weights(declared(config), seed)))
    assert np.abs(model.logits(ids) - logits).max() > 1e-2 * np.abs(logits).max()
