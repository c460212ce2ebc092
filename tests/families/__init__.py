"""What the cases of each family change in `tiny_llama.BASE`, one file a family or its kin."""

from __future__ import annotations

#: As a change: the key is not in the configuration.
ABSENT = object()
#: All that transformers has a default for.
SILENT = dict.fromkeys(
    ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta",
     "tie_word_embeddings", "bos_token_id", "hidden_act"), ABSENT,
)  # fmt: skip
