"""The block of Llama and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrc.models.base import Site
from lrc.models.block import ProgramBlock
from lrc.models.decoder_config import DecoderConfig
from lrc.models.decoder_tensors import NORMS, SITES
from lrc.nn.ops import STREAM, Add, Attend, Gate, Norm, Op, Rotate


@dataclass(frozen=True)
class DecoderBlock(ProgramBlock):
    """Norm, rotary grouped-query attention, norm, gated feed-forward part.

    A family whose blocks differ in some of it derives its own.
    """

    config: DecoderConfig

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of `decoder_tensors`."""
        return SITES

    def program(self) -> Sequence[Op]:
        """See the class."""
        return (
            self.norm(NORMS[0], STREAM, "x"),
            *self.attention("x", "y"),
            Add("y"),
            self.norm(NORMS[1], STREAM, "x"),
            *self.feed_forward("x", "y"),
            Add("y"),
        )

    def norm(self, key: str, source: str, target: str) -> Norm:
        """RMSNorm by a weight of the block."""
        return Norm(self.plain[key], source, target, self.config.eps)

    def attention(self, source: str, target: str) -> Sequence[Op]:
        """From a normalised stream to what is added to it: the first two sites."""
        c = self.config
        window = c.windows[self.index]
        return (
            self.multiply(0, source, "q", "k", "v"),
            *self.positions(),
            Attend("q", "k", "v", "mixed", self.index, c.heads, c.kv_heads, c.head_dim, window),
            self.multiply(1, "mixed", target),
        )

    def positions(self) -> Sequence[Op]:
        """What is done to queries and keys before they meet."""
        return Rotate("q", self.config.rope), Rotate("k", self.config.rope)

    def feed_forward(self, source: str, target: str) -> Sequence[Op]:
        """From a normalised stream to what is added to it: the last two sites."""
        return (
            self.multiply(2, source, "gate", "up"),
            Gate("gate", "up"),
            self.multiply(3, "gate", target),
        )
