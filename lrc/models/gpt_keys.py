"""Keys of ``config.json`` as GPT-2 and its kin have them."""

from __future__ import annotations

#: Usual names of keys to theirs; None where they have no such key.
SPELLED: dict[str, str | None] = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "hidden_act": "activation_function",
    "rms_norm_eps": "layer_norm_epsilon",
    "num_key_value_heads": None,
    "head_dim": None,
}
#: Keys that change nothing, and why.
HARMLESS: dict[str, str] = {
    "n_ctx": "n_positions is how many positions there are",
    "summary_*": "is of a classifier's head",
    "reorder_and_upcast_attn": "says how the same result is computed",
    "output_past": "says how the same result is computed or returned",
}
