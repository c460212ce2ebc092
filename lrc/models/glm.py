"""GLM-4: half of each head is rotated, one matrix gives the gate and what it gates.

GLM Team, 2024. Neighbouring dims are pairs; queries, keys and values may have a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.base import Site
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import QKV, SITES, decoder_tensors, linear_shapes
from lrc.models.phi3 import FusedGateBlock
from lrc.models.tensors import Tensors

USED = ("attention_bias", "partial_rotary_factor")
KEYS = decoder_keys("glm", used=USED)
DEFAULTS = Defaults(
    kv_heads=2, head_dim=128, max_positions=131072, eps=1.5625e-7,
    rotary=Rotary(partial=0.5, interleaved=True), attention_bias=True,
)  # fmt: skip
GATE_UP = "mlp.gate_up_proj"
GLM_SITES = (*SITES[:2], Site("mlp_input", (GATE_UP,)), SITES[3])


@dataclass(frozen=True)
class GlmConfig(DecoderConfig):
    """Shapes and constants of a GLM-4 model."""

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
        return cls(**decoder_fields(config, KEYS, DEFAULTS))


class GlmBlock(FusedGateBlock):
    """A block of Llama, its gate fused with what it gates."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of Llama, but one matrix before the gate."""
        return GLM_SITES


def shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """(m, n) of each linear layer of a block."""
    return {**linear_shapes(config), GATE_UP: (2 * config.intermediate, config.hidden)}


def tensors(config: DecoderConfig, norms: Mapping[str, int] | None = None) -> Tensors:
    """Every tensor of a checkpoint with this configuration, and these norms in a block."""
    biased = QKV if config.attention_bias else ()
    return decoder_tensors(config, sites=GLM_SITES, shapes=shapes, biased=biased, norms=norms)


GLM = DecoderFamily("glm", GlmConfig.from_dict, tensors, GlmBlock)
