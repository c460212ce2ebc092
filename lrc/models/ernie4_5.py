"""ERNIE 4.5, its dense models: Llama whose neighbouring dims are rotated as pairs (Baidu, 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import decoder_tensors

KEYS = decoder_keys(
    "ernie4_5",
    used=("use_bias",),
    off={"compression_ratio": (None, 1)},
    own_code=("configuration_ernie4_5", "modeling_ernie4_5"),
)
DEFAULTS = Defaults(
    kv_heads=2, head_dim=128, bos_id=1, max_positions=131072, eps=1e-5,
    rotary=Rotary(500000.0, interleaved=True), tied=True,
)  # fmt: skip


@dataclass(frozen=True)
class Ernie45Config(DecoderConfig):
    """Shapes and constants of such a model; all linear layers of a block have a bias, or none."""

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Read the fields of a Hugging Face ``config.json``.

        Raises
        ------
        FormatError
            When a field is missing or is not what its name says.
        UnsupportedModelError
            When a field asks for something that is not computed here.
        """
        bias = flag(config, "use_bias")
        fields = decoder_fields(config, KEYS, DEFAULTS)
        return cls(**fields, attention_bias=bias, mlp_bias=bias)


ERNIE4_5 = DecoderFamily("ernie4_5", Ernie45Config.from_dict, decoder_tensors, DecoderBlock)
