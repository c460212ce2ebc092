"""Llama: RMSNorm, rotary grouped-query attention and SwiGLU (Touvron et al., 2023)."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.accept import accept
from lrc.models.base import Array, Ids, WeightSource
from lrc.models.llama_block import LlamaBlock
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
from lrc.nn.cache import KVCache
from lrc.nn.embedding import Embedding, make_embedding
from lrc.nn.layers import rms_norm
from lrc.nn.linear import Linear, make_linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from lrc.formats.stored import StoredMatrix
    from lrc.nn.engine.engines import Engines
    from lrc.parts.matrix import PackedMatrix


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
        self._read: Callable[[str], Array | PackedMatrix | StoredMatrix] = self.source.linear

    def as_stored(self) -> LlamaModel:
        """The same model with matrices left as they are on disk, widened tile by tile in use.

        It takes half the memory where weights are of 16 bits, and more time on few tokens. A
        packed model is returned as it is: its matrices stay packed anyway.
        """
        if not isinstance(self.source, Checkpoint):
            return self
        made = LlamaModel(self.source)
        made._read = self.source.stored
        return made

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

    def check_length(self, tokens: int) -> None:
        """Refuse sequences that are longer than the model's context.

        Raises
        ------
        SpecError
            With both lengths.
        """
        if tokens > self.config.max_positions:
            raise SpecError(
                f"{tokens} tokens exceed the model's context of {self.config.max_positions}; "
                "give it fewer at a time"
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
        self.check_length(start + ids.shape[1])
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
        self.check_length(max_length)
        c = self.config
        return KVCache(c.layers, batch, c.kv_heads, max_length, c.head_dim)

    def engines(self) -> Engines:
        """What computes packed models fast; made once and kept."""
        with self._lock:
            return self._engines

    @cached_property
    def _engines(self) -> Engines:
        from lrc.nn.engine.engines import Engines

        return Engines(self.config, self.blocks, self._final_norm, self._head)

    @cached_property
    def _embedding(self) -> Embedding:
        return make_embedding(self._read(EMBEDDING))

    @cached_property
    def _final_norm(self) -> Array:
        return self.source.dense(FINAL_NORM)

    @cached_property
    def _head(self) -> Linear:
        if not self.config.tied:
            return make_linear(self._read(HEAD))
        return make_linear(self._embedding.matrix)

    def _linear(self, key: str) -> Linear:
        """Read the linear layer ``key``, with its bias where it has one."""
        weight, bias = self._read(f"{key}.weight"), f"{key}.bias"
        if bias not in self.tensors.read:
            return make_linear(weight)
        return make_linear(weight, self.source.dense(bias))
