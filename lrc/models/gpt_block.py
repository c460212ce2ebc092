"""The block of GPT-2 and its kin: layer norms, attention, a feed-forward part of two layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lrc.models.base import Site
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig
from lrc.nn.ops import Activate, Op, Split


@dataclass(frozen=True)
class GptLayers:
    """What a family calls the linear layers of a block.

    Attributes
    ----------
    projections : tuple of str
        Those of queries, keys and values, or a single one of all three.
    output : str
        Of attention.
    up, down : str
        Of the feed-forward part.
    by_head : bool
        Whether that single one holds the rows of each key head together: those of its queries,
        then of the keys, then of the values.
    """

    projections: tuple[str, ...]
    output: str
    up: str
    down: str
    by_head: bool = False

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites of a block."""
        return (
            Site("attn_input", self.projections),
            Site("attn_output", (self.output,), writes=True),
            Site("mlp_input", (self.up,)),
            Site("mlp_output", (self.down,), writes=True),
        )

    @property
    def all(self) -> tuple[str, ...]:
        """Every layer."""
        return (*self.projections, self.output, self.up, self.down)

    def shapes(self, config: DecoderConfig) -> Mapping[str, tuple[int, int]]:
        """(m, n) of every layer."""
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        hidden, wide = config.hidden, config.intermediate
        rows = (queries, keys, keys) if len(self.projections) == 3 else (queries + 2 * keys,)
        return {
            **{key: (m, hidden) for key, m in zip(self.projections, rows, strict=True)},
            self.output: (hidden, queries),
            self.up: (wide, hidden),
            self.down: (hidden, wide),
        }


@dataclass(frozen=True)
class GptBlock(DecoderBlock):
    """Layer norm, attention, layer norm, feed-forward part of two layers.

    A family says what its layers and norms are called.
    """

    norm_kind = "layer"
    layers: ClassVar[GptLayers]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of its layers."""
        return self.layers.sites

    def projections(self, source: str) -> Sequence[Op]:
        """Queries, keys and values, from three matrices or from one."""
        if len(self.layers.projections) > 1:
            return super().projections(source)
        c = self.config
        groups = c.kv_heads if self.layers.by_head else 1
        widths = tuple(n // groups * c.head_dim for n in (c.heads, c.kv_heads, c.kv_heads))
        return self.multiply(0, source, "qkv"), Split("qkv", ("q", "k", "v"), widths, groups)

    def feed_forward(self, source: str, target: str) -> Sequence[Op]:
        """From a normalised stream to what is added to it: the last two sites."""
        return (
            self.multiply(2, source, "up"),
            Activate("up", self.config.activation),
            self.multiply(3, "up", target),
        )
