"""Configurations are read as transformers reads them, where the extra ``parity`` is installed."""

from __future__ import annotations

import importlib
from typing import Any

import hypothesis.strategies as st
import pytest
from families import ABSENT
from hypothesis import given, reject, settings

from lrc.errors import LrcError
from lrc.models import MODELS
from lrc.models.activations import KINDS

transformers = pytest.importorskip("transformers")

LAYERS = 4
#: Enough heads for all numbers of keys that families take where a file is silent.
SIZES = {
    "num_hidden_layers": LAYERS, "num_attention_heads": 32, "hidden_size": 64,
    "intermediate_size": 24, "vocab_size": 48,
}  # fmt: skip
#: Keys that a family may have, and what files may say; a family is given those that it knows.
VALUES: dict[str, list[Any]] = {
    "num_key_value_heads": [ABSENT, 2, 4],
    "head_dim": [ABSENT, 8],
    "tie_word_embeddings": [ABSENT, True, False],
    "rms_norm_eps": [ABSENT, 1e-3],
    "layer_norm_eps": [ABSENT, 1e-3],
    "max_position_embeddings": [ABSENT, 99],
    "bos_token_id": [ABSENT, None, 3],
    "hidden_act": [ABSENT, "silu", "gelu_pytorch_tanh", "gelu", "gelu_new", "relu"],
    "hidden_activation": [ABSENT, "silu", "gelu_pytorch_tanh"],
    "attention_bias": [ABSENT, True, False],
    "sliding_window": [ABSENT, 5],
    "sliding_window_pattern": [ABSENT, 2, 3],
    "use_sliding_window": [ABSENT, True, False],
    "max_window_layers": [ABSENT, 0, 2],
    "layer_types": [ABSENT, ["sliding_attention", "full_attention"] * 2, ["full_attention"] * 4],
}
FAMILIES_HERE = (
    "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm",
    "glm4", "granite", "helium", "hunyuan_v1_dense", "ministral", "mistral", "olmo2",
    "olmo3", "qwen2", "qwen3", "seed_oss", "smollm3",
)  # fmt: skip


def theirs(config: dict[str, Any]) -> dict[str, Any]:
    """What transformers makes of a configuration, under the names that they are read to here."""
    c = transformers.AutoConfig.for_model(**config)
    kinds = getattr(c, "layer_types", None)
    width = getattr(c, "sliding_window", None) or 0
    if kinds is None:  # one rule for all blocks
        kinds = ["sliding_attention"] * LAYERS
    names = [getattr(c, key, None) for key in ("hidden_act", "hidden_activation")]
    return {
        "kv_heads": c.num_key_value_heads,
        "head_dim": getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
        "tied": c.tie_word_embeddings,
        "eps": getattr(c, "rms_norm_eps", None) or c.layer_norm_eps,
        "max_positions": c.max_position_embeddings,
        "bos_id": c.bos_token_id,
        "activation": KINDS[next(name for name in reversed(names) if name)],
        "attention_bias": getattr(c, "attention_bias", False),
        "windows": tuple(width if kind == "sliding_attention" else 0 for kind in kinds),
    }


@pytest.mark.parametrize("family", FAMILIES_HERE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_configurations_are_read_as_there(family: str, data: st.DataObject) -> None:
    keys = importlib.import_module(f"lrc.models.{family}").KEYS
    known = [key for key in VALUES if key in keys.used and keys.name(key) == key]
    drawn = {key: data.draw(st.sampled_from(VALUES[key]), key) for key in known}
    config = {key: value for key, value in (SIZES | drawn).items() if value is not ABSENT}
    try:
        ours = MODELS[family].read({"model_type": family, **config})  # type: ignore[attr-defined]
    except LrcError:  # nothing that is refused can be wrong
        reject()
    expected = theirs({"model_type": family, **config})
    assert {key: getattr(ours, key) for key in expected} == expected
