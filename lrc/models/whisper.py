"""Whisper: an encoder of speech, and a decoder that writes what was said (Radford et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.block import ProgramBlock
from lrc.models.of_source import SourceModel
from lrc.models.source import Array, Ids, WeightSource, check_ids
from lrc.models.speech import needs_audio
from lrc.models.tensors import Tensors
from lrc.models.whisper_config import WhisperConfig
from lrc.models.whisper_stacks import EncoderStack, TextStack
from lrc.models.whisper_tensors import whisper_tensors
from lrc.nn.cache import KVCache
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.memory import MEMORY, MemoryCache

if TYPE_CHECKING:
    from lrc.nn.engine.engines import Engines


@dataclass(frozen=True)
class WhisperFamily:
    """The row of the table of families."""

    name: str = "whisper"

    def declared(self, config: Mapping[str, Any]) -> Tensors:
        """Every tensor of a checkpoint with this ``config.json``."""
        return whisper_tensors(WhisperConfig.from_dict(config))

    def open(self, source: WeightSource) -> WhisperModel:
        """Make the model of a source."""
        return WhisperModel(source)


class WhisperModel(SourceModel[WhisperConfig]):
    """Whisper over a weight source; see `SourceModel`. Both residual streams have one width."""

    def __init__(self, source: WeightSource, *, stored: bool = False) -> None:
        config = WhisperConfig.from_dict(source.config)
        super().__init__("whisper", config, whisper_tensors(config), source, stored=stored)
        given = (config, self.tensors, self.source, self._read)
        self._encoder, self._text = EncoderStack(*given), TextStack(*given)
        self._blocks: tuple[tuple[ProgramBlock, ...], ...] | None = None

    @property
    def stacks(self) -> tuple[EncoderStack, TextStack]:
        """Encoder and decoder."""
        return self._encoder, self._text

    @property
    def features(self) -> tuple[int, int]:
        """Shape of a window's features: bands, frames."""
        return self.config.mels, 2 * self.config.sources

    def as_stored(self) -> WhisperModel:
        """The same model with matrices left as they are on disk; a packed one as it is."""
        if not isinstance(self.source, Checkpoint):
            return self
        return WhisperModel(self.source, stored=True)

    @property
    def blocks(self) -> tuple[tuple[ProgramBlock, ...], ...]:
        """Every block of each stack, read once and kept."""
        with self._lock:
            if self._blocks is None:
                self._blocks = tuple(
                    tuple(map(stack.load_block, range(len(stack)))) for stack in self.stacks
                )
            return self._blocks

    def release(self) -> None:
        """Forget the weights that were kept; they are read again when next needed."""
        with self._lock:
            self._blocks = None
            self.__dict__.pop("_engines", None)
            for stack in self.stacks:
                stack.release()

    def check_ids(self, ids: Ids) -> None:
        """Refuse token ids outside the vocabulary."""
        check_ids(ids, self.config.vocab)

    def listen(self, features: Array, max_length: int, execution: Execution = PLAIN) -> MemoryCache:
        """Make a cache for texts of up to ``max_length`` tokens about features (B, bands, frames).

        Raises
        ------
        SpecError
            The features have another shape, or the texts exceed the model's context.
        """
        self.check_length(max_length)
        positions, h = np.arange(self.config.sources), self._encoder.start(features)
        for block in self.blocks[0]:
            h = block(h, positions, None, execution)
        memory = self._encoder.finish(h, execution)
        c = self.config
        head_dim = c.hidden // c.decoder.heads
        return MemoryCache(memory, c.decoder.layers, c.decoder.heads, max_length, head_dim)

    def embed(self, ids: Ids, first: int = 0) -> Array:
        """Residual stream (B, T, hidden) before the decoder's first block."""
        return self._text.start(ids, first)

    def head(self, h: Array, execution: Execution = PLAIN) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""
        return self._text.finish(h, execution)

    def hidden(self, ids: Ids, cache: KVCache | None = None, execution: Execution = PLAIN) -> Array:
        """Residual stream after the decoder's last block, (B, T, hidden), for (B, T) token ids.

        The ids continue what the cache, one of `listen`, holds, and are added to it.

        Raises
        ------
        SpecError
            There is no such cache.
        """
        if not isinstance(cache, MemoryCache):
            raise needs_audio()
        start = cache.length
        self.check_length(start + ids.shape[1])
        positions = np.arange(start, start + ids.shape[1])
        h = self.embed(ids, start)
        for block in self.blocks[1]:
            h = block(h, positions, cache, execution, given={MEMORY: cache.memory})
        cache.advance(ids.shape[1])
        return h

    def new_cache(self, batch: int, max_length: int) -> KVCache:
        """Refuse: a text without audio has no cache; see `listen`."""
        raise needs_audio()

    def _new_engines(self) -> Engines:
        from lrc.nn.engine.engines import Engines

        body = [op for half in self.blocks for block in half for op in block.ops()]
        return Engines(self.config.hidden, body, self._text.tail())


WHISPER = WhisperFamily()
