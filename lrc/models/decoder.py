"""Dense decoders: an embedding, one stack of blocks, a norm and a head."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.accept import accept
from lrc.models.added_biases import with_added_biases
from lrc.models.block import ProgramBlock
from lrc.models.decoder_config import StackConfig
from lrc.models.decoder_ends import ENDS, Ends
from lrc.models.decoder_stack import DecoderStack
from lrc.models.source import Array, Ids, Weight, WeightSource
from lrc.models.tensors import Tensors
from lrc.nn.cache import KVCache
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.ops import new_cache

if TYPE_CHECKING:
    from lrc.nn.engine.engines import Engines


@dataclass(frozen=True)
class DecoderFamily:
    """A family of dense decoders, declared.

    Attributes
    ----------
    name : str
        Named in errors.
    read : function
        From a ``config.json`` to the family's configuration.
    tensors : function
        Every tensor of a checkpoint with such a configuration.
    block : type
        Its blocks: made from configuration, index, linears and other tensors by key.
    ends : Ends
        What lies before and after the blocks.
    """

    name: str
    read: Callable[[Mapping[str, Any]], StackConfig]
    tensors: Callable[[Any], Tensors]
    block: type[ProgramBlock]
    ends: Ends = ENDS

    def declared(self, config: Mapping[str, Any]) -> Tensors:
        """Every tensor of a checkpoint with this ``config.json``."""
        return self.tensors(self.read(config))

    def open(self, source: WeightSource) -> DecoderModel:
        """Make the model of a source."""
        return DecoderModel(self, source)


class DecoderModel:
    """A dense decoder over a weight source; weights are read when they are first needed.

    Parameters
    ----------
    family : DecoderFamily
    source : WeightSource
        Dense or packed checkpoint of that family.
    stored : bool
        Whether matrices are left as they are on disk; then the source is dense.

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

    def __init__(
        self, family: DecoderFamily, source: WeightSource, *, stored: bool = False
    ) -> None:
        self._family = family
        self.config = family.read(source.config)
        self.tensors = with_added_biases(family.tensors(self.config), source)
        accepted = accept(source, self.tensors, family.name)
        self.source, self.notes = accepted.source, accepted.notes
        read: Callable[[str], Weight] = self.source.linear
        if stored and isinstance(self.source, Checkpoint):
            read = self.source.stored
        self._stack = DecoderStack(family, self.config, self.tensors, self.source, read)
        self._lock = threading.RLock()
        self._blocks: tuple[ProgramBlock, ...] | None = None

    @property
    def stacks(self) -> tuple[DecoderStack]:
        """The one stack."""
        return (self._stack,)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.config.vocab

    @property
    def context(self) -> int:
        """Most tokens of a sequence."""
        return self.config.max_positions

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self.config.hidden

    @property
    def bos_id(self) -> int | None:
        """The token that begins texts, where the configuration names one."""
        return self.config.bos_id

    def as_stored(self) -> DecoderModel:
        """The same model with matrices left as they are on disk; a packed one as it is."""
        if not isinstance(self.source, Checkpoint):
            return self
        return DecoderModel(self._family, self.source, stored=True)

    @property
    def blocks(self) -> tuple[ProgramBlock, ...]:
        """Every block, read once and kept."""
        with self._lock:
            if self._blocks is None:
                self._blocks = tuple(map(self._stack.load_block, range(len(self._stack))))
            return self._blocks

    def release(self) -> None:
        """Forget the weights that were kept; they are read again when next needed."""
        with self._lock:
            self._blocks = None
            self.__dict__.pop("_engines", None)
            self._stack.release()

    def check_ids(self, ids: Ids) -> None:
        """Refuse token ids outside the vocabulary."""
        self._stack.check_ids(ids)

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

    def embed(self, ids: Ids, first: int = 0) -> Array:
        """Residual stream (B, T, hidden) before the first block, for (B, T) token ids."""
        return self._stack.start(ids, first)

    def head(self, h: Array, execution: Execution = PLAIN) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""
        return self._stack.finish(h, execution)

    def hidden(self, ids: Ids, cache: KVCache | None = None, execution: Execution = PLAIN) -> Array:
        """Residual stream after the last block, (B, T, hidden), for (B, T) token ids.

        With a cache, the ids continue what the cache holds, and are added to it.
        """
        start = 0 if cache is None else cache.length
        self.check_length(start + ids.shape[1])
        positions = np.arange(start, start + ids.shape[1])
        h = self.embed(ids, start)
        for block in self.blocks:
            h = block(h, positions, cache, execution)
        if cache is not None:
            cache.advance(ids.shape[1])
        return h

    def logits(self, ids: Ids, cache: KVCache | None = None) -> Array:
        """Logits (B, T, vocab) float32 of (B, T) token ids; see `hidden` for the cache."""
        return self.head(self.hidden(ids, cache))

    def new_cache(self, batch: int, max_length: int) -> KVCache:
        """Make an empty cache for ``batch`` sequences of up to ``max_length`` tokens.

        Blocks with a window keep little more than that.
        """
        self.check_length(max_length)
        return new_cache((op for block in self.blocks for op in block.ops()), batch, max_length)

    def engines(self) -> Engines:
        """What computes packed models fast; made once and kept."""
        with self._lock:
            return self._engines

    @cached_property
    def _engines(self) -> Engines:
        from lrc.nn.engine.engines import Engines

        body = [op for block in self.blocks for op in block.ops()]
        return Engines(self.config.hidden, body, self._stack.tail())
