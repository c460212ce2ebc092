"""Mixtral: Mistral whose feed-forward parts are mixtures of experts (Jiang et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import Windows
from lrc.models.expert_keys import EACH, expert_counts
from lrc.models.experts import ATTENTION, ExpertNames, Experts, MoeBlock, MoeConfig
from lrc.models.tensors import Tensors

KEYS = decoder_keys(
    "mixtral",
    used=("sliding_window", "num_local_experts", EACH),
    harmless={"router_jitter_noise": "is for training"},
)
DEFAULTS = Defaults(kv_heads=8, bos_id=1, max_positions=131072, eps=1e-5, rotary=Rotary(theta=1e6))
#: Experts, and how many of them compute a token, where the keys are absent.
EXPERTS, TOP = 8, 2
NAMES = ExpertNames("block_sparse_moe", gate="w1", up="w3", down="w2")


@dataclass(frozen=True)
class MixtralConfig(MoeConfig):
    """Shapes and constants of a Mixtral model."""

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
        window = 0 if config.get("sliding_window") is None else count(config, "sliding_window")
        fields = decoder_fields(config, KEYS, DEFAULTS, Windows(window))
        experts, top = expert_counts(config, ("num_local_experts",), EXPERTS, TOP)
        width = fields["intermediate"]
        mixture = Experts(experts, top, width, normalised=True, names=NAMES)
        return cls(**fields, experts=mixture, dense=frozenset())


def tensors(config: MixtralConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, sites=ATTENTION, more=config.feed_forward)


MIXTRAL = DecoderFamily("mixtral", MixtralConfig.from_dict, tensors, MoeBlock)
