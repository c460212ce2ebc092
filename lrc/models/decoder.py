"""Dense decoders: an embedding, one stack of blocks, a norm and a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.block import ProgramBlock
from lrc.models.decoder_config import StackConfig
from lrc.models.decoder_ends import ENDS, Ends
from lrc.models.decoder_stack import DecoderStack
from lrc.models.of_source import SourceModel
from lrc.models.source import Array, Ids, WeightSource
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


class DecoderModel(SourceModel[StackConfig]):
    """A dense decoder over a weight source: of a checkpoint of the family; see `SourceModel`."""

    def __init__(
        self, family: DecoderFamily, source: WeightSource, *, stored: bool = False
    ) -> None:
        self._family, config = family, family.read(source.config)
        super().__init__(family.name, config, family.tensors(config), source, stored=stored)
        self._stack = DecoderStack(family, config, self.tensors, self.source, self._read)
        self._blocks: tuple[ProgramBlock, ...] | None = None

    @property
    def stacks(self) -> tuple[DecoderStack]:
        """The one stack."""
        return (self._stack,)

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

    def new_cache(self, batch: int, max_length: int) -> KVCache:
        """Make an empty cache for ``batch`` sequences of up to ``max_length`` tokens.

        Blocks with a window keep little more than that.
        """
        self.check_length(max_length)
        return new_cache((op for block in self.blocks for op in block.ops()), batch, max_length)

    def _new_engines(self) -> Engines:
        from lrc.nn.engine.engines import Engines

        body = [op for block in self.blocks for op in block.ops()]
        return Engines(self.config.hidden, body, self._stack.tail())
