"""Cohere's Command R: attention and the feed-forward part side by side, layer norms without a bias.

Neighbouring dims are rotated as pairs. Queries and keys of each head may have a norm of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import flag, number
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain, layer_norm_and_head
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import K_NORM, NORMS, Q_NORM, decoder_tensors
from lrc.models.tensors import Tensors
from lrc.nn.linear import Linear
from lrc.nn.ops import LOGITS, Op, Scale

KEYS = decoder_keys(
    "cohere",
    used=("attention_bias", "logit_scale", "use_qk_norm"),
    spelled={"rms_norm_eps": "layer_norm_eps"},
)
DEFAULTS = Defaults(
    bos_id=5, max_positions=8192, eps=1e-5, rotary=Rotary(500000.0, interleaved=True), tied=True
)
#: Of logits, where the key is absent.
SCALE = 0.0625


@dataclass(frozen=True)
class CohereConfig(DecoderConfig):
    """Shapes and constants of a Cohere model.

    Logits are multiplied by ``logit_scale``; ``qk_norm``: whether queries and keys have norms.
    """

    logit_scale: float
    qk_norm: bool = False

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
        return cls(
            **decoder_fields(config, KEYS, DEFAULTS),
            logit_scale=number(config, "logit_scale", SCALE),
            qk_norm=flag(config, "use_qk_norm"),
        )


@dataclass(frozen=True)
class CohereBlock(DecoderBlock):
    """One norm, and both parts beside each other."""

    norm_kind = "layer"
    norms = NORMS[:1]
    config: CohereConfig

    def program(self) -> Sequence[Op]:
        """See the class."""
        return self.side_by_side(*self.norms)

    def positions(self) -> Sequence[Op]:
        """Norms, where there are any, then rotation."""
        names = {Q_NORM: "q", K_NORM: "k"} if self.config.qk_norm else {}
        norms = (self.norm(key, value, value) for key, value in names.items())
        return (*norms, *super().positions())


def tensors(config: CohereConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    norms: dict[str, int | tuple[int, ...]] = {NORMS[0]: config.hidden}
    if config.qk_norm:
        norms[Q_NORM] = (config.heads, config.head_dim)
        norms[K_NORM] = (config.kv_heads, config.head_dim)
    return decoder_tensors(config, norms=norms)


def scaled_logits(config: CohereConfig, plain: Plain, head: Linear) -> Sequence[Op]:
    """Layer norm, head, and a factor."""
    return (*layer_norm_and_head(config, plain, head), Scale(LOGITS, config.logit_scale))


ENDS = Ends(after=scaled_logits)
COHERE = DecoderFamily("cohere", CohereConfig.from_dict, tensors, CohereBlock, ENDS)
