"""The stack of a dense decoder: an embedding, blocks, a norm and a head."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lrc.models.block import ProgramBlock
from lrc.models.decoder_config import StackConfig
from lrc.models.opening import Opening
from lrc.models.source import Array, Ids, Weight, WeightSource, check_ids, read_linear
from lrc.models.tensors import EMBEDDING, HEAD, HEAD_BIAS, Tensors
from lrc.nn.embedding import Embedding, make_embedding
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import Linear, make_linear
from lrc.nn.ops import LOGITS, STREAM, Op, Pass, run

if TYPE_CHECKING:
    from lrc.models.decoder import DecoderFamily


class DecoderStack:
    """The blocks, and what lies before and after them.

    Parameters
    ----------
    family : DecoderFamily
    config : StackConfig
    tensors : Tensors
    source : WeightSource
        It has all of them.
    read : function
        Reads a matrix or a table of the source, by name.
    tables : mapping
        Tables to take in place of those that are stored, by role.
    """

    def __init__(
        self,
        family: DecoderFamily,
        config: StackConfig,
        tensors: Tensors,
        source: WeightSource,
        read: Callable[[str], Weight],
        tables: Mapping[str, Weight] | None = None,
    ) -> None:
        self._family, self._config, self._tensors = family, config, tensors
        self._source, self._read, self._tables = source, read, dict(tables or {})
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Number of blocks."""
        return self._config.layers

    @property
    def first(self) -> int:
        """Place of the first block among those of the model."""
        return 0

    def with_tables(self, tables: Mapping[str, Weight]) -> DecoderStack:
        """Return the same stack with other tables, by role; a tied head follows the embedding."""
        return DecoderStack(
            self._family, self._config, self._tensors, self._source, self._read,
            self._tables | dict(tables),
        )  # fmt: skip

    def start(self, inputs: Ids, first: int = 0) -> Array:
        """Residual stream (B, T, hidden) before the first block, from token ids (B, T)."""
        return self.opening(inputs, first).run()

    def opening(self, inputs: Ids, first: int = 0) -> Opening:
        """What `start` does, as data."""
        self.check_ids(inputs)
        positions = np.arange(first, first + inputs.shape[-1])
        with self._lock:
            return Opening(self._embedding.rows(inputs), self._before, positions)

    def load_block(self, index: int, *, later: bool = False) -> ProgramBlock:
        """Read block ``index`` from the source; nothing of it is kept.

        ``later``: matrices of a dense checkpoint are read when they are first looked at.
        """
        plain = self._tensors.plain(index)
        linears = {}
        for key, name in self.linears(index).items():
            bias = plain.get(f"{key}.bias")
            linears[key] = read_linear(
                self._source, self._read, name,
                None if bias is None else self._source.dense(bias), later=later,
            )  # fmt: skip
        others = {
            key: self._source.dense(name)
            for key, name in plain.items()
            if key.removesuffix(".bias") not in linears
        }
        return self._family.block(self._config, index, linears, others)

    def linears(self, index: int) -> dict[str, str]:
        """Names of the tensors of the linear layers of block ``index``, by key."""
        return self._tensors.linears(index)

    def finish(self, h: Array, execution: Execution = PLAIN) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""
        return run(self.tail(), {STREAM: h}, Pass(np.arange(0), None, execution))[LOGITS]

    def tail(self) -> tuple[Op, ...]:
        """What `finish` does, as data, to the value `LOGITS`."""
        with self._lock:
            return self._after

    def release(self) -> None:
        """Forget the weights that were kept; they are read again when next needed."""
        with self._lock:
            for name in ("_embedding", "_plain", "_before", "_after"):
                self.__dict__.pop(name, None)

    def check_ids(self, ids: Ids) -> None:
        """Refuse token ids outside the vocabulary; see `check_ids`."""
        check_ids(ids, self._config.vocab)

    @cached_property
    def _embedding(self) -> Embedding:
        return make_embedding(self._table(EMBEDDING))

    @cached_property
    def _before(self) -> tuple[Op, ...]:
        return tuple(self._family.ends.before(self._config, self._plain))

    @cached_property
    def _after(self) -> tuple[Op, ...]:
        return tuple(self._family.ends.after(self._config, self._plain, self._head()))

    def _head(self) -> Linear:
        bias = self._plain.get(HEAD_BIAS)
        if HEAD in self._tensors.tables:
            return make_linear(self._table(HEAD), bias)
        return make_linear(self._embedding.matrix, bias)

    @cached_property
    def _plain(self) -> dict[str, Array]:
        """What is outside the blocks beside tables, by key."""
        names = self._tensors.plain(None)
        return {key: self._source.dense(name) for key, name in names.items()}

    def _table(self, role: str) -> Weight:
        given = self._tables.get(role)
        return self._read(self._tensors.tables[role]) if given is None else given
