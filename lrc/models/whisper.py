"""Whisper: an encoder of speech, and a decoder that writes what was said (Radford et al., 2022)."""

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
from lrc.models.source import Array, Ids, Weight, WeightSource, check_ids
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


class WhisperModel:
    """Whisper over a weight source; weights are read when they are first needed.

    Parameters
    ----------
    source : WeightSource
        Dense or packed checkpoint.
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

    def __init__(self, source: WeightSource, *, stored: bool = False) -> None:
        self.config = WhisperConfig.from_dict(source.config)
        self.tensors = with_added_biases(whisper_tensors(self.config), source)
        accepted = accept(source, self.tensors, "whisper")
        self.source, self.notes = accepted.source, accepted.notes
        read: Callable[[str], Weight] = self.source.linear
        if stored and isinstance(self.source, Checkpoint):
            read = self.source.stored
        given = (self.config, self.tensors, self.source, read)
        self._encoder, self._text = EncoderStack(*given), TextStack(*given)
        self._lock = threading.RLock()
        self._blocks: tuple[tuple[ProgramBlock, ...], ...] | None = None

    @property
    def stacks(self) -> tuple[EncoderStack, TextStack]:
        """Encoder and decoder."""
        return self._encoder, self._text

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self.config.vocab

    @property
    def context(self) -> int:
        """Most tokens of a text."""
        return self.config.max_positions

    @property
    def hidden_size(self) -> int:
        """Width of both residual streams."""
        return self.config.hidden

    @property
    def bos_id(self) -> int | None:
        """The token that begins texts, where the configuration names one."""
        return self.config.bos_id

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

    def check_length(self, tokens: int) -> None:
        """Refuse texts that are longer than the model's context.

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

    def logits(self, ids: Ids, cache: KVCache | None = None) -> Array:
        """Logits (B, T, vocab) float32 of (B, T) token ids; see `hidden` for the cache."""
        return self.head(self.hidden(ids, cache))

    def new_cache(self, batch: int, max_length: int) -> KVCache:
        """Refuse: a text without audio has no cache; see `listen`."""
        raise needs_audio()

    def engines(self) -> Engines:
        """What computes packed models fast; made once and kept."""
        with self._lock:
            return self._engines

    @cached_property
    def _engines(self) -> Engines:
        from lrc.nn.engine.engines import Engines

        body = [op for half in self.blocks for block in half for op in block.ops()]
        return Engines(self.config.hidden, body, self._text.tail())


WHISPER = WhisperFamily()
