"""The metadata of a GGUF file becomes the config of the same Llama model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_gguf
from numpy.typing import NDArray
from tiny_gguf import TOKENS

from lrc.convert.gguf import import_gguf
from lrc.errors import UnsupportedModelError


def config_of(folder: Path, *args: Any, **changes: Any) -> Any:
    file = tiny_gguf.write(folder / "m.gguf", *args, **changes)
    return json.loads((import_gguf(file, folder / "out") / "config.json").read_text("utf-8"))


def test_config_follows_the_metadata(tmp_path: Path) -> None:
    assert config_of(tmp_path) == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(TOKENS),
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 96,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        "torch_dtype": "float16",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"llama__rope__scaling__type": "none"}, None),
        (
            {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0},
            {"rope_type": "linear", "factor": 4.0},
        ),
        ({"llama__rope__scale_linear": 2.5}, {"rope_type": "linear", "factor": 2.5}),
    ],
)
def test_rope_scaling(tmp_path: Path, changes: dict[str, Any], expected: Any) -> None:
    assert config_of(tmp_path, **changes)["rope_scaling"] == expected


def llama3_factors(factor: float, theta: float) -> NDArray[np.float32]:
    """Divisors as the Llama 3 rule gives them, one frequency at a time."""
    made = []
    for i in range(8):
        length = 2 * np.pi * theta ** (2 * i / 16)
        if length < 8192 / 4:
            made.append(1.0)
        elif length > 8192 / 1:
            made.append(factor)
        else:
            smooth = (8192 / length - 1) / (4 - 1)
            made.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(made, np.float32)


def test_llama3_rope_is_recognised(tmp_path: Path) -> None:
    weights = {**tiny_gguf.tensors(), "rope_freqs.weight": llama3_factors(32.0, 500000.0)}
    config = config_of(tmp_path, weights, llama__rope__freq_base=500000.0)
    assert config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_other_rope_factors_are_refused(tmp_path: Path) -> None:
    factors = llama3_factors(32.0, 500000.0) * np.linspace(1, 1.1, 8, dtype=np.float32)
    with pytest.raises(UnsupportedModelError, match="Llama 3 rule"):
        config_of(tmp_path, {**tiny_gguf.tensors(), "rope_freqs.weight": factors})
