"""Granite: Llama with multipliers of embedding, attention, residual sums and logits (IBM, 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import number
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain, norm_and_head
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.nn.linear import Linear
from lrc.nn.ops import LOGITS, STREAM, Op, Scale

KEYS = decoder_keys(
    "granite",
    used=(
        "attention_bias", "mlp_bias", "embedding_multiplier", "attention_multiplier",
        "residual_multiplier", "logits_scaling",
    ),
)  # fmt: skip
DEFAULTS = Defaults(bos_id=1)


@dataclass(frozen=True)
class GraniteConfig(DecoderConfig):
    """Shapes and constants of a Granite model.

    ``embedding`` multiplies the rows of the embedding, ``residual`` what is added to the stream;
    logits are divided by ``logits_scaling``.
    """

    embedding: float
    residual: float
    logits_scaling: float

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
        fields = decoder_fields(config, KEYS, DEFAULTS)
        fields["scale"] = number(config, "attention_multiplier", 1.0)
        return cls(
            **fields,
            embedding=number(config, "embedding_multiplier", 1.0),
            residual=number(config, "residual_multiplier", 1.0),
            logits_scaling=number(config, "logits_scaling", 1.0),
        )


@dataclass(frozen=True)
class GraniteBlock(DecoderBlock):
    """A block of Llama that scales what it adds."""

    config: GraniteConfig

    def attention(self, source: str, target: str) -> Sequence[Op]:
        """Attention, scaled."""
        return (*super().attention(source, target), Scale(target, self.config.residual))

    def feed_forward(self, source: str, target: str) -> Sequence[Op]:
        """The gated part, scaled."""
        return (*super().feed_forward(source, target), Scale(target, self.config.residual))


def scaled_embedding(config: GraniteConfig, plain: Plain) -> Sequence[Op]:
    """The rows of the embedding, multiplied."""
    return (Scale(STREAM, config.embedding),)


def scaled_logits(config: GraniteConfig, plain: Plain, head: Linear) -> Sequence[Op]:
    """RMSNorm, head, and a division."""
    return (*norm_and_head(config, plain, head), Scale(LOGITS, 1 / config.logits_scaling))


ENDS = Ends(scaled_embedding, scaled_logits)
GRANITE = DecoderFamily("granite", GraniteConfig.from_dict, decoder_tensors, GraniteBlock, ENDS)
