"""What the cases of each family change in `tiny_llama.BASE`, one file a family or its kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: As a change: the key is not in the configuration.
ABSENT = object()
#: All that transformers has a default for.
SILENT = dict.fromkeys(
    ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta",
     "tie_word_embeddings", "bos_token_id", "hidden_act"), ABSENT,
)  # fmt: skip


def without_absent(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the keys that are said to be `ABSENT`."""
    return {key: value for key, value in config.items() if value is not ABSENT}
