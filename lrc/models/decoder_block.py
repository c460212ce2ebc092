"""Blocks of dense decoders, run site by site or at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from lrc.errors import SpecError
from lrc.models.base import Site
from lrc.models.decoder_config import DecoderConfig
from lrc.models.decoder_tensors import NORMS, SITES
from lrc.models.source import Array
from lrc.nn.attention import attention
from lrc.nn.cache import KVCache
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.layers import gated_silu, rms_norm
from lrc.nn.linear import Linear, apply_all
from lrc.nn.ops import STREAM, Add, Attend, Gate, Multiply, Norm, Op, Rotate
from lrc.nn.rope import Positions, apply_rope, rope_tables


@dataclass(frozen=True)
class DecoderBlock:
    """Norm, rotary grouped-query attention, norm, gated feed-forward part.

    ``linears`` and ``norms`` are keyed as in the checkpoint, without prefix and ``.weight``.
    A block only reads itself, so threads may share it. A family whose blocks differ derives its
    own: what happens before and between the sites is in `enter` and `step`, and once more in `ops`.
    """

    config: DecoderConfig
    index: int
    linears: Mapping[str, Linear]
    norms: Mapping[str, Array]
    sites: tuple[Site, ...] = SITES

    def enter(self, h: Array) -> Array:
        """Input of the first site, (B, T, hidden), from the residual stream ``h``."""
        return self._norm("input_layernorm", h)

    def step(
        self,
        site_index: int,
        h: Array,
        x: Array,
        positions: Positions,
        cache: KVCache | None = None,
        execution: Execution = PLAIN,
    ) -> tuple[Array, Array]:
        """Apply the linears of one site and all that lies before the next; see `Block.step`."""
        if site_index == 0:
            return h, self._attend(x, positions, cache, execution)
        if site_index == 1:
            after = self.linears["self_attn.o_proj"](x, execution)
            after += h
            return after, self._norm("post_attention_layernorm", after)
        if site_index == 2:
            gate, up = self._apply(site_index, x, execution)
            return h, gated_silu(gate, up, execution)
        after = self.linears["mlp.down_proj"](x, execution)
        after += h
        return after, after

    def __call__(
        self,
        h: Array,
        positions: Positions,
        cache: KVCache | None = None,
        execution: Execution = PLAIN,
    ) -> Array:
        """Residual stream after the block, (B, T, hidden)."""
        x = self.enter(h)
        for site_index in range(len(self.sites)):
            h, x = self.step(site_index, h, x, positions, cache, execution)
        return h

    def ops(self) -> tuple[Op, ...]:
        """What `__call__` does, as data: compiled loops may run it in its place."""
        c, first, second = self.config, *(self.norms[key] for key in NORMS)
        window = c.windows[self.index]
        return (
            Norm(first, STREAM, "x", c.eps),
            self._multiply(0, "x", "q", "k", "v"),
            Rotate("q", c.rope),
            Rotate("k", c.rope),
            Attend("q", "k", "v", "mixed", self.index, c.heads, c.kv_heads, c.head_dim, window),
            self._multiply(1, "mixed", "y"),
            Add("y"),
            Norm(second, STREAM, "x", c.eps),
            self._multiply(2, "x", "gate", "up"),
            Gate("gate", "up"),
            self._multiply(3, "gate", "y"),
            Add("y"),
        )

    def with_linears(self, new: Mapping[str, Linear]) -> Self:
        """Return the same block with some linears replaced.

        Raises
        ------
        SpecError
            When a key is none of the block's linears.
        """
        unknown = sorted(set(new) - set(self.linears))
        if unknown:
            raise SpecError(
                f"no linear layer is called {', '.join(unknown)}; "
                f"the block has {', '.join(self.linears)}"
            )
        return replace(self, linears={**self.linears, **new})

    def _norm(self, key: str, h: Array) -> Array:
        return rms_norm(h, self.norms[key], self.config.eps)

    def _multiply(self, site_index: int, source: str, *targets: str) -> Multiply:
        linears = tuple(self.linears[key] for key in self.sites[site_index].linears)
        return Multiply(linears, source, targets)

    def _apply(self, site_index: int, x: Array, execution: Execution) -> list[Array]:
        linears = [self.linears[key] for key in self.sites[site_index].linears]
        return apply_all(linears, x, execution)

    def _attend(
        self, x: Array, positions: Positions, cache: KVCache | None, execution: Execution
    ) -> Array:
        config = self.config
        split = (*x.shape[:-1], -1, config.head_dim)
        cos, sin = rope_tables(config.rope, positions)
        q, k, v = (y.reshape(split) for y in self._apply(0, x, execution))
        q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
        window = config.windows[self.index]
        if cache is None:
            k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        else:
            k, v = cache.append(self.index, k, v)
        return attention(q, k, v, window, execution)
