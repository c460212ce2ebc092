"""The block of Llama and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lrc.models.base import Site
from lrc.models.block import ProgramBlock
from lrc.models.decoder_config import DecoderConfig
from lrc.models.decoder_tensors import K_NORM, NORMS, Q_NORM, SITES
from lrc.nn.ops import STREAM, Add, Attend, Gate, Norm, Op, Rotate
from lrc.nn.rope import Rope


@dataclass(frozen=True)
class DecoderBlock(ProgramBlock):
    """Norm, rotary grouped-query attention, norm, gated feed-forward part.

    A family whose blocks differ in some of it derives its own.
    """

    #: "layer" where norms are layer norms, with a bias where there is one.
    norm_kind: ClassVar[str] = "rms"
    #: Keys of the norms before attention and before the feed-forward part; none, or both.
    norms: ClassVar[tuple[str, ...]] = NORMS
    #: And of those after them, of what is added to the stream.
    norms_after: ClassVar[tuple[str, ...]] = ()
    config: DecoderConfig

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of `decoder_tensors`."""
        return SITES

    @property
    def rope(self) -> Rope | None:
        """How queries and keys are rotated; None where they are not."""
        return self.config.rope

    def program(self) -> Sequence[Op]:
        """See the class."""
        return (*self._part(0, self.attention), *self._part(1, self.feed_forward))

    def _part(self, index: int, part: Callable[[str, str], Sequence[Op]]) -> Sequence[Op]:
        """One of both parts, between its norms, added to the stream."""
        before = [self.norm(key, STREAM, "x") for key in self.norms[index : index + 1]]
        after = [self.norm(key, "y", "y") for key in self.norms_after[index : index + 1]]
        return (*before, *part("x" if before else STREAM, "y"), *after, Add("y"))

    def side_by_side(self, *norms: str) -> Sequence[Op]:
        """The other program: both parts read the stream that the block finds.

        Each has one of two norms, or both have the same.
        """
        own = [self.norm(key, STREAM, f"x{i}") for i, key in enumerate(norms)]
        return (
            *own,
            *self.attention(own[0].target, "y"),
            Add("y"),
            *self.feed_forward(own[-1].target, "y"),
            Add("y"),
        )

    def norm(self, key: str, source: str, target: str) -> Norm:
        """Norm by a weight of the block."""
        bias = self.plain.get(f"{key}.bias")
        return Norm(self.plain[key], source, target, self.config.eps, self.norm_kind, bias)

    def attention(self, source: str, target: str) -> Sequence[Op]:
        """From a normalised stream to what is added to it: the first two sites."""
        return (
            *self.projections(source),
            *self.positions(),
            self.attend("q", "k", "v", "mixed"),
            self.multiply(1, "mixed", target),
        )

    def projections(self, source: str) -> Sequence[Op]:
        """Queries, keys and values: the first site."""
        return (self.multiply(0, source, "q", "k", "v"),)

    def attend(self, queries: str, keys: str, values: str, target: str) -> Attend:
        """Attention as the configuration has it."""
        c = self.config
        return Attend(
            queries, keys, values, target, self.index, c.heads, c.kv_heads, c.head_dim,
            c.windows[self.index], c.scale, c.cap,
        )  # fmt: skip

    def positions(self) -> Sequence[Op]:
        """What is done to queries and keys before they meet."""
        rope, head_dim = self.rope, self.config.head_dim
        return () if rope is None else tuple(Rotate(name, rope, head_dim) for name in "qk")

    def feed_forward(self, source: str, target: str) -> Sequence[Op]:
        """From a normalised stream to what is added to it: the last two sites."""
        return (
            self.multiply(2, source, "gate", "up"),
            Gate("gate", "up", self.config.activation),
            self.multiply(3, "gate", target),
        )


class QKNormBlock(DecoderBlock):
    """The same, with norms of queries and keys before they are rotated; see `qk_norms`."""

    def positions(self) -> Sequence[Op]:
        """Norms, then rotation."""
        return (self.norm(Q_NORM, "q", "q"), self.norm(K_NORM, "k", "k"), *super().positions())
