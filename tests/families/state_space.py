"""Tiny configurations of state-space families."""

from __future__ import annotations

from typing import Any

#: What every configuration has to say.
NEEDED: dict[str, Any] = {"num_hidden_layers": 2, "vocab_size": 48, "eos_token_id": 2}
#: What transformers has defaults for.
BASE: dict[str, Any] = NEEDED | {
    "hidden_act": "silu",
    "hidden_size": 32,
    "state_size": 8,
    "conv_kernel": 4,
    "expand": 2,
    "layer_norm_epsilon": 1e-5,
    "use_bias": False,
    "use_conv_bias": True,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
}

_MAMBA: dict[str, dict[str, Any]] = {
    "plain": {"hidden_size": 64, "state_size": 16, "time_step_rank": "auto"},
    "untied_biases": {
        "tie_word_embeddings": False, "use_bias": True, "use_conv_bias": False,
        "time_step_rank": 5, "state_size": 6, "conv_kernel": 3,
    },
    "odd_sizes": {
        "hidden_size": 22, "expand": 3, "state_size": 17, "conv_kernel": 2, "num_hidden_layers": 3,
        "layer_norm_epsilon": 1e-3, "residual_in_fp32": False,
    },
    "one_tap": {"expand": 1, "conv_kernel": 1, "state_size": 1, "time_step_rank": 1},
}  # fmt: skip
_FALCON_MAMBA: dict[str, dict[str, Any]] = {
    "plain": {"hidden_size": 48, "tie_word_embeddings": False, "expand": 16,
              "intermediate_size": 96},
    "tied_biases": {
        "use_bias": True, "use_conv_bias": False, "time_step_rank": 5, "state_size": 6,
        "conv_kernel": 3, "mixer_rms_eps": 1e-2,
    },
    "odd_sizes": {"hidden_size": 22, "expand": 3, "state_size": 17, "num_hidden_layers": 3},
}  # fmt: skip
_MAMBA2: dict[str, dict[str, Any]] = {
    "plain": {"hidden_size": 48, "num_heads": 6, "head_dim": 16, "n_groups": 2,
              "tie_word_embeddings": False, "chunk_size": 16},
    "tied_biases": {
        "num_heads": 4, "head_dim": 16, "n_groups": 1, "use_bias": True, "use_conv_bias": False,
        "conv_kernel": 3, "state_size": 17, "chunk_size": 256,
    },
    "odd_sizes": {
        "hidden_size": 20, "expand": 3, "num_heads": 12, "head_dim": 5, "n_groups": 4,
        "state_size": 3, "num_hidden_layers": 3, "layer_norm_epsilon": 1e-3, "chunk_size": 7,
    },
    "limited_steps": {
        "num_heads": 2, "head_dim": 32, "n_groups": 2, "time_step_limit": [0.02, 0.1],
        "tie_word_embeddings": False, "chunk_size": 64,
    },
}  # fmt: skip


def _whole(rows: dict[str, dict[str, Any]], **silent: Any) -> dict[str, dict[str, Any]]:
    """Whole configurations, and one that leaves out every key with a default."""
    return {name: BASE | row for name, row in rows.items()} | {"silent": NEEDED | silent}


MAMBA = _whole(_MAMBA, hidden_size=40)
FALCON_MAMBA = _whole(_FALCON_MAMBA, hidden_size=40)
MAMBA2 = _whole(_MAMBA2, hidden_size=64, num_heads=8, head_dim=16)
