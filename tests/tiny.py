"""A tiny random Llama checkpoint in Hugging Face layout, for tests of whole commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BOS, EOS = "<|start|>", "<|end|>"
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
# Neither width is a power of two; heads are grouped.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 258,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "torch_dtype": "float32",
}
TEXT = (
    "The quick brown fox jumps over the lazy dog; the dog sleeps on. A matrix that is nearly of "
    "low rank keeps its columns close to a plane, and what sticks out is rounded.\n"
) * 40


def tokenizer() -> Tokenizer:
    """One token a byte, then BOS and EOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([BOS, EOS])
    return made


def tensors(config: dict[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """Random weights with a few large input channels, as real models have."""
    rng = np.random.default_rng(seed)
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head

    def matrix(m: int, n: int) -> NDArray[np.float32]:
        columns = np.exp(0.5 * rng.standard_normal(n))
        return np.asarray(rng.standard_normal((m, n)) * columns / np.sqrt(n), np.float32)

    made = {
        "model.embed_tokens.weight": matrix(config["vocab_size"], hidden),
        "model.norm.weight": np.ones(hidden, np.float32),
    }
    if not config["tie_word_embeddings"]:
        made["lm_head.weight"] = matrix(config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        made |= {
            prefix + "input_layernorm.weight": np.ones(hidden, np.float32),
            prefix + "post_attention_layernorm.weight": np.ones(hidden, np.float32),
            prefix + "self_attn.q_proj.weight": matrix(queries, hidden),
            prefix + "self_attn.k_proj.weight": matrix(keys, hidden),
            prefix + "self_attn.v_proj.weight": matrix(keys, hidden),
            prefix + "self_attn.o_proj.weight": matrix(hidden, queries),
            prefix + "mlp.gate_proj.weight": matrix(inner, hidden),
            prefix + "mlp.up_proj.weight": matrix(inner, hidden),
            prefix + "mlp.down_proj.weight": matrix(hidden, inner),
        }
    return made


def write_model(path: Path, *, seed: int = 71, **changes: Any) -> Path:
    """Write a whole model directory; ``changes`` override entries of :data:`CONFIG`."""
    config = CONFIG | changes
    return write_directory(path, config, tensors(config, seed))


def write_directory(
    path: Path, config: dict[str, Any], weights: dict[str, NDArray[np.float32]]
) -> Path:
    """Write a model, of any family, with the tokenizer; ``config`` has its tokens' ids."""
    path.mkdir(parents=True)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    _json(path / "config.json", config)
    tokenizer().save(str(path / "tokenizer.json"))
    _json(
        path / "tokenizer_config.json",
        {"bos_token": BOS, "eos_token": EOS, "chat_template": TEMPLATE},
    )
    _json(path / "generation_config.json", {"bos_token_id": 256, "eos_token_id": 257})
    _json(path / "special_tokens_map.json", {"bos_token": BOS, "eos_token": EOS})
    return path


def add_merge(path: Path) -> None:
    """Let the tokenizer in a directory join two letters: GGUF takes none that has no merges.

    The joined token has the id of a byte that no text has.
    """
    file = path / "tokenizer.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    model = stored["model"]
    model["vocab"]["th"] = model["vocab"].pop("\u00ff")
    model["merges"] = [["t", "h"]]
    _json(file, stored)


def write_text(path: Path) -> Path:
    """A calibration text of a few thousand bytes."""
    path.write_text(TEXT, encoding="utf-8")
    return path


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
