"""Llama: RMSNorm, rotary grouped-query attention and SwiGLU (Touvron et al., 2023)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lrc.errors import SpecError
from lrc.models.accept import accept
from lrc.models.base import Array, Ids, Site, WeightSource
from lrc.models.llama_config import LlamaConfig
from lrc.models.llama_tensors import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    NORMS,
    SITES,
    block_prefix,
    linear_shapes,
    tensors,
)
from lrc.nn.attention import attention
from lrc.nn.cache import KVCache
from lrc.nn.embedding import Embedding, make_embedding
from lrc.nn.layers import gated_silu, rms_norm
from lrc.nn.linear import Linear, apply_all, make_linear
from lrc.nn.rope import Positions, apply_rope, rope_tables

if TYPE_CHECKING:
    from lrc.nn.engines import Engines


@dataclass(frozen=True)
class LlamaBlock:
    """One decoder block, run site by site or at once.

    ``linears`` and ``norms`` are keyed as in the checkpoint, without prefix and ``.weight``.
    A block only reads itself, so threads may share it.
    """

    config: LlamaConfig
    index: int
    linears: Mapping[str, Linear]
    norms: Mapping[str, Array]
    sites: tuple[Site, ...] = SITES

    def enter(self, h: Array) -> Array:
        """Input of the first site, (B, T, hidden), from the residual stream ``h``."""
        return rms_norm(h, self.norms["input_layernorm"], self.config.eps)

    def step(
        self,
        site_index: int,
        h: Array,
        x: Array,
        positions: Positions,
        cache: KVCache | None = None,
    ) -> tuple[Array, Array]:
        """Apply the linears of one site and all that lies before the next site.

        Parameters
        ----------
        site_index : int
            Index into ``sites``.
        h : (B, T, hidden) float32
            Residual stream.
        x : (B, T, n) float32
            Input of the site.
        positions : (T,) integers
            Consecutive positions of the tokens.
        cache : KVCache or None
            Receives the keys and values at the first site.

        Returns
        -------
        h : (B, T, hidden) float32
            Residual stream after the site.
        x : (B, T, n') float32
            Input of the next site; after the last site, ``h`` itself.
        """
        if site_index == 0:
            return h, self._attend(x, positions, cache)
        if site_index == 1:
            after = self.linears["self_attn.o_proj"](x)
            after += h
            return after, rms_norm(after, self.norms["post_attention_layernorm"], self.config.eps)
        if site_index == 2:
            return h, gated_silu(*self._apply(site_index, x))
        after = self.linears["mlp.down_proj"](x)
        after += h
        return after, after

    def __call__(self, h: Array, positions: Positions, cache: KVCache | None = None) -> Array:
        """Residual stream after the block, (B, T, hidden)."""
        x = self.enter(h)
        for site_index in range(len(self.sites)):
            h, x = self.step(site_index, h, x, positions, cache)
        return h

    def with_linears(self, new: Mapping[str, Linear]) -> LlamaBlock:
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

    def _apply(self, site_index: int, x: Array) -> list[Array]:
        return apply_all([self.linears[key] for key in self.sites[site_index].linears], x)

    def _attend(self, x: Array, positions: Positions, cache: KVCache | None) -> Array:
        config = self.config
        split = (*x.shape[:-1], -1, config.head_dim)
        cos, sin = rope_tables(config.rope, positions)
        q, k, v = (y.reshape(split) for y in self._apply(0, x))
        q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
        if cache is None:
            return attention(q, k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3))
        return attention(q, *cache.append(self.index, k, v))


class LlamaModel:
    """A Llama model over a weight source; weights are read when they are first needed.

    Parameters
    ----------
    source : WeightSource
        Dense or packed checkpoint with ``model_type`` "llama".

    Attributes
    ----------
    source
        The same, its names those that the model reads.
    tensors
        What they are.
    notes
        What a user should know of tensors that are stored and not read.

    Raises
    ------
    FormatError
        A tensor is missing or is not what the configuration implies.
    UnsupportedModelError
        The configuration, or a tensor, asks for something that is not computed here.
    """

    sites = SITES

    def __init__(self, source: WeightSource) -> None:
        self.config = LlamaConfig.from_dict(source.config)
        self.tensors = tensors(self.config)
        accepted = accept(source, self.tensors, "llama")
        self.source, self.notes = accepted.source, accepted.notes
        self._lock = threading.RLock()
        self._blocks: tuple[LlamaBlock, ...] | None = None

    def load_block(self, index: int) -> LlamaBlock:
        """Read block ``index`` from the source; nothing of it is kept by the model."""
        prefix = block_prefix(index)
        linears = {key: self._linear(prefix + key) for key in linear_shapes(self.config)}
        norms = {key: self.source.dense(f"{prefix}{key}.weight") for key in NORMS}
        return LlamaBlock(self.config, index, linears, norms)

    @property
    def blocks(self) -> tuple[LlamaBlock, ...]:
        """Every block, read once and kept."""
        with self._lock:
            if self._blocks is None:
                self._blocks = tuple(self.load_block(i) for i in range(self.config.layers))
            return self._blocks

    def release(self) -> None:
        """Forget the weights that were kept; they are read again when next needed."""
        with self._lock:
            self._blocks = None
            for name in ("_embedding", "_final_norm", "_head", "_engines"):
                self.__dict__.pop(name, None)

    def check_ids(self, ids: Ids) -> None:
        """Refuse token ids outside the vocabulary.

        Raises
        ------
        SpecError
            With the range found and the range known.
        """
        if ids.size and not (int(ids.min()) >= 0 and int(ids.max()) < self.config.vocab):
            raise SpecError(
                f"token ids run from {ids.min()} to {ids.max()}, but the model knows "
                f"0 to {self.config.vocab - 1}; does the tokenizer belong to this model?"
            )

    def embed(self, ids: Ids) -> Array:
        """Rows of the embedding, (B, T, hidden) float32, for (B, T) token ids."""
        self.check_ids(ids)
        with self._lock:
            embedding = self._embedding
        return embedding.rows(ids)

    def head(self, h: Array) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""
        with self._lock:
            norm, head = self._final_norm, self._head
        return head(rms_norm(h, norm, self.config.eps))

    def hidden(self, ids: Ids, cache: KVCache | None = None) -> Array:
        """Residual stream after the last block, (B, T, hidden), for (B, T) token ids.

        With a cache, the ids continue what the cache holds, and are added to it.
        """
        start = 0 if cache is None else cache.length
        positions = np.arange(start, start + ids.shape[1])
        h = self.embed(ids)
        for block in self.blocks:
            h = block(h, positions, cache)
        if cache is not None:
            cache.advance(ids.shape[1])
        return h

    def logits(self, ids: Ids, cache: KVCache | None = None) -> Array:
        """Logits (B, T, vocab) float32 of (B, T) token ids; see `hidden` for the cache."""
        return self.head(self.hidden(ids, cache))

    def new_cache(self, batch: int, max_length: int) -> KVCache:
        """Make an empty cache for ``batch`` sequences of up to ``max_length`` tokens."""
        c = self.config
        return KVCache(c.layers, batch, c.kv_heads, max_length, c.head_dim)

    def engines(self) -> Engines:
        """What computes packed models fast; made once and kept."""
        with self._lock:
            return self._engines

    @cached_property
    def _engines(self) -> Engines:
        from lrc.nn.engines import Engines

        return Engines(self.config, self.blocks, self._final_norm, self._head)

    @cached_property
    def _embedding(self) -> Embedding:
        return make_embedding(self.source.linear(EMBEDDING))

    @cached_property
    def _final_norm(self) -> Array:
        return self.source.dense(FINAL_NORM)

    @cached_property
    def _head(self) -> Linear:
        if not self.config.tied:
            return make_linear(self.source.linear(HEAD))
        return make_linear(self._embedding.matrix)

    def _linear(self, key: str) -> Linear:
        """Read the linear layer ``key``, with its bias where it has one."""
        weight, bias = self.source.linear(f"{key}.weight"), f"{key}.bias"
        if bias not in self.tensors.read:
            return make_linear(weight)
        return make_linear(weight, self.source.dense(bias))
