"""What models over a weight source have in common: what was read, and what it says of texts."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.accept import accept
from lrc.models.added_biases import with_added_biases
from lrc.models.source import Array, Ids, Weight, WeightSource
from lrc.models.tensors import Tensors
from lrc.nn.cache import KVCache

if TYPE_CHECKING:
    from lrc.nn.engine.engines import Engines


class TextConfig(Protocol):
    """What any configuration says of the model's texts; see `StackConfig`."""

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        ...

    @property
    def max_positions(self) -> int:
        """Most tokens of a text."""
        ...

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The token that begins texts."""
        ...


C = TypeVar("C", bound=TextConfig)


class SourceModel(Generic[C]):
    """A model over a weight source; weights are read when they are first needed.

    Parameters
    ----------
    family : str
        Named in errors.
    config : TextConfig
    tensors : Tensors
        Every tensor of a checkpoint with that configuration.
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
        A tensor asks for something that is not computed here.
    """

    def __init__(
        self, family: str, config: C, tensors: Tensors, source: WeightSource, *, stored: bool
    ) -> None:
        self.config = config
        self.tensors = with_added_biases(tensors, source)
        accepted = accept(source, self.tensors, family)
        self.source, self.notes = accepted.source, accepted.notes
        self._read: Callable[[str], Weight] = self.source.linear
        if stored and isinstance(self.source, Checkpoint):
            self._read = self.source.stored
        self._lock = threading.RLock()

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
        """Width of the residual stream."""
        return self.config.hidden

    @property
    def bos_id(self) -> int | None:
        """The token that begins texts, where the configuration names one."""
        return self.config.bos_id

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

    @abstractmethod
    def hidden(self, ids: Ids, cache: KVCache | None = None) -> Array:
        """Residual stream after the last block, (B, T, hidden), for (B, T) token ids."""

    @abstractmethod
    def head(self, h: Array) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""

    def logits(self, ids: Ids, cache: KVCache | None = None) -> Array:
        """Logits (B, T, vocab) float32 of (B, T) token ids; see `hidden` for the cache."""
        return self.head(self.hidden(ids, cache))

    def engines(self) -> Engines:
        """What computes packed models fast; made once and kept."""
        with self._lock:
            return self._engines

    @cached_property
    def _engines(self) -> Engines:
        return self._new_engines()

    @abstractmethod
    def _new_engines(self) -> Engines: ...
