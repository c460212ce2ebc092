"""The two stacks of Whisper: features to a memory, and token ids with that memory to logits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from lrc.errors import SpecError
from lrc.models.block import ProgramBlock
from lrc.models.opening import Opening
from lrc.models.source import Array, Ids, Weight, WeightSource, check_ids, read_linear
from lrc.models.tensors import EMBEDDING, HEAD, Tensors
from lrc.models.whisper_blocks import EPS, EncoderBlock, TextBlock
from lrc.models.whisper_config import WhisperConfig
from lrc.nn.convolution import Convolve
from lrc.nn.embedding import Embedding, make_embedding
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import Linear, make_linear
from lrc.nn.memory import MEMORY
from lrc.nn.ops import LOGITS, STREAM, Activate, AddPositions, Multiply, Norm, Op, Pass, run


class _HalfStack:
    """What both stacks share.

    Parameters
    ----------
    config : WhisperConfig
    tensors : Tensors
    source : WeightSource
        It has all of them.
    read : function
        Reads a matrix or a table of the source, by name.
    tables : mapping
        Tables to take in place of those that are stored, by role.
    """

    block: ClassVar[type[ProgramBlock]]
    half: ClassVar[str]

    def __init__(
        self,
        config: WhisperConfig,
        tensors: Tensors,
        source: WeightSource,
        read: Callable[[str], Weight],
        tables: Mapping[str, Weight] | None = None,
    ) -> None:
        self._config, self._tensors, self._source = config, tensors, source
        self._read, self._tables = read, dict(tables or {})
        self._lock = threading.RLock()

    @property
    def first(self) -> int:
        """Place of the first block among those of the model."""
        raise NotImplementedError

    def load_block(self, index: int, *, later: bool = False) -> ProgramBlock:
        """Read block ``index`` from the source; see `DecoderStack.load_block`."""
        plain = self._tensors.plain(self.first + index)
        others = {key: self._source.dense(name) for key, name in plain.items()}
        linears = {
            key: read_linear(
                self._source, self._read, name, others.pop(f"{key}.bias", None), later=later
            )
            for key, name in self.linears(index).items()
        }
        return self.block(self._config, index, linears, others)

    def linears(self, index: int) -> dict[str, str]:
        """Names of the tensors of the linear layers of block ``index``, by key."""
        return self._tensors.linears(self.first + index)

    def with_tables(self, tables: Mapping[str, Weight]) -> Self:
        """Return the same stack with other tables, by role; a tied head follows the embedding."""
        return type(self)(
            self._config, self._tensors, self._source, self._read, self._tables | dict(tables)
        )

    def release(self) -> None:
        """Forget the weights that were kept; they are read again when next needed."""
        with self._lock:
            for name in ("_plain", "_embedding", "_head"):
                self.__dict__.pop(name, None)

    @cached_property
    def _plain(self) -> dict[str, Array]:
        """What lies outside the blocks of this half, by key without the half's name."""
        prefix = f"{self.half}."
        return {
            key.removeprefix(prefix): self._source.dense(name)
            for key, name in self._tensors.plain(None).items()
            if key.startswith(prefix)
        }

    def _last_norm(self, target: str) -> Norm:
        plain = self._plain
        return Norm(plain["layer_norm"], STREAM, target, EPS, "layer", plain["layer_norm.bias"])


class EncoderStack(_HalfStack):
    """Two convolutions over features and positions, blocks, a norm."""

    block, half = EncoderBlock, "encoder"

    def __len__(self) -> int:
        """Number of blocks."""
        return self._config.encoder.layers

    @property
    def first(self) -> int:
        """Place of the first block among those of the model."""
        return 0

    def start(self, inputs: Array, first: int = 0) -> Array:
        """Residual stream (B, S, hidden) before the first block, from features (B, mels, 2 S).

        Errors are those of `opening`.
        """
        return self.opening(inputs, first).run()

    def opening(self, inputs: Array, first: int = 0) -> Opening:
        """What `start` does, as data.

        Raises
        ------
        SpecError
            The features are not those of one whole window.
        """
        expected = (self._config.mels, 2 * self._config.sources)
        if inputs.shape[1:] != expected:
            raise SpecError(
                f"features have the shape {inputs.shape[1:]} and the model takes {expected} "
                "(bands, frames); do preprocessor_config.json and config.json belong together?"
            )
        moments = np.ascontiguousarray(inputs.transpose(0, 2, 1), np.float32)
        with self._lock:
            return Opening(moments, self._before(), np.arange(self._config.sources))

    def finish(self, h: Array, execution: Execution = PLAIN) -> Array:
        """The memory (..., hidden) of the residual stream after the last block."""
        return run(self.tail(), {STREAM: h}, Pass(np.arange(0), None, execution))[MEMORY]

    def tail(self) -> tuple[Op, ...]:
        """What `finish` does, as data, to the value `MEMORY`."""
        with self._lock:
            return (self._last_norm(MEMORY),)

    def _before(self) -> tuple[Op, ...]:
        plain = self._plain
        return (
            Convolve(STREAM, plain["conv1"], plain["conv1.bias"]),
            Activate(STREAM, "gelu"),
            Convolve(STREAM, plain["conv2"], plain["conv2.bias"], 2),
            Activate(STREAM, "gelu"),
            AddPositions(plain["embed_positions"]),
        )


class TextStack(_HalfStack):
    """An embedding and positions, blocks, a norm and a head."""

    block, half = TextBlock, "decoder"

    def __len__(self) -> int:
        """Number of blocks."""
        return self._config.decoder.layers

    @property
    def first(self) -> int:
        """Place of the first block among those of the model."""
        return self._config.encoder.layers

    def start(self, inputs: Ids, first: int = 0) -> Array:
        """Residual stream (B, T, hidden) before the first block, from token ids (B, T).

        ``first`` is the position of the first of them.
        """
        return self.opening(inputs, first).run()

    def opening(self, inputs: Ids, first: int = 0) -> Opening:
        """What `start` does, as data."""
        check_ids(inputs, self._config.vocab)
        positions = np.arange(first, first + inputs.shape[-1])
        with self._lock:
            rows, table = self._embedding.rows(inputs), self._plain["embed_positions"]
        return Opening(rows, (AddPositions(table),), positions)

    def finish(self, h: Array, execution: Execution = PLAIN) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""
        return run(self.tail(), {STREAM: h}, Pass(np.arange(0), None, execution))[LOGITS]

    def tail(self) -> tuple[Op, ...]:
        """What `finish` does, as data, to the value `LOGITS`."""
        with self._lock:
            return (self._last_norm("x"), Multiply((self._head,), "x", (LOGITS,)))

    @cached_property
    def _embedding(self) -> Embedding:
        return make_embedding(self._table(EMBEDDING))

    @cached_property
    def _head(self) -> Linear:
        if HEAD in self._tensors.tables:
            return make_linear(self._table(HEAD))
        return make_linear(self._embedding.matrix)

    def _table(self, role: str) -> Weight:
        given = self._tables.get(role)
        return self._read(self._tensors.tables[role]) if given is None else given
