"""Blocks of Whisper's two halves, as operations."""

from __future__ import annotations

from collections.abc import Sequence

from lrc.models.base import Site
from lrc.models.block import ProgramBlock
from lrc.models.whisper_config import WhisperConfig
from lrc.models.whisper_tensors import (
    DECODER_NORMS,
    DECODER_SITES,
    ENCODER_NORMS,
    ENCODER_SITES,
)
from lrc.nn.memory import MEMORY, AttendAll, MultiplyMemory
from lrc.nn.ops import STREAM, Activate, Add, Attend, Norm, Op

#: Added to variances.
EPS = 1e-5


class _WhisperBlock(ProgramBlock):
    """What the blocks of both halves share."""

    config: WhisperConfig

    def norm(self, key: str) -> Norm:
        """The stream to ``x``, normalised."""
        return Norm(self.plain[key], STREAM, "x", EPS, "layer", self.plain[f"{key}.bias"])

    def feed_forward(self, site_index: int) -> Sequence[Op]:
        """From ``x`` to the stream, through two sites."""
        return (
            self.multiply(site_index, "x", "wide"),
            Activate("wide", self.config.activation),
            self.multiply(site_index + 1, "wide", "y"),
            Add("y"),
        )


class EncoderBlock(_WhisperBlock):
    """Norm, attention to all moments, norm, feed-forward part."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of `whisper_tensors`."""
        return ENCODER_SITES

    def program(self) -> Sequence[Op]:
        """See the class."""
        head_dim = self.config.hidden // self.config.encoder.heads
        return (
            self.norm(ENCODER_NORMS[0]),
            self.multiply(0, "x", "q", "k", "v"),
            AttendAll("q", "k", "v", "mixed", head_dim),
            self.multiply(1, "mixed", "y"),
            Add("y"),
            self.norm(ENCODER_NORMS[1]),
            *self.feed_forward(2),
        )


class TextBlock(_WhisperBlock):
    """Norm, causal attention, norm, attention to the memory, norm, feed-forward part."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of `whisper_tensors`."""
        return DECODER_SITES

    def program(self) -> Sequence[Op]:
        """See the class."""
        heads = self.config.decoder.heads
        head_dim = self.config.hidden // heads
        of_memory = self.multiply(3, MEMORY, "keys", "values")
        return (
            self.norm(DECODER_NORMS[0]),
            self.multiply(0, "x", "q", "k", "v"),
            Attend("q", "k", "v", "mixed", self.index, heads, heads, head_dim),
            self.multiply(1, "mixed", "y"),
            Add("y"),
            self.norm(DECODER_NORMS[1]),
            self.multiply(2, "x", "q"),
            MultiplyMemory(of_memory.linears, MEMORY, of_memory.targets, layer=self.index),
            AttendAll("q", "keys", "values", "mixed", head_dim),
            self.multiply(4, "mixed", "y"),
            Add("y"),
            self.norm(DECODER_NORMS[2]),
            *self.feed_forward(5),
        )
