"""The stack of a dense decoder: an embedding, blocks, a norm and a head."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property

from lrc.errors import SpecError
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig
from lrc.models.decoder_tensors import FINAL_NORM
from lrc.models.source import Array, Ids, Weight, WeightSource
from lrc.models.tensors import EMBEDDING, HEAD, Tensors
from lrc.nn.embedding import Embedding, make_embedding
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.layers import rms_norm
from lrc.nn.linear import Linear, make_linear
from lrc.nn.ops import LOGITS, STREAM, Multiply, Norm, Op


class DecoderStack:
    """The blocks, and what lies before and after them.

    Parameters
    ----------
    block : type
        Of every block; see `lrc.models.decoder.DecoderFamily`.
    config : DecoderConfig
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
        block: type[DecoderBlock],
        config: DecoderConfig,
        tensors: Tensors,
        source: WeightSource,
        read: Callable[[str], Weight],
        tables: Mapping[str, Weight] | None = None,
    ) -> None:
        self._block, self._config, self._tensors = block, config, tensors
        self._source, self._read, self._tables = source, read, dict(tables or {})
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Number of blocks."""
        return self._config.layers

    def with_tables(self, tables: Mapping[str, Weight]) -> DecoderStack:
        """Return the same stack with other tables, by role; a tied head follows the embedding."""
        return DecoderStack(
            self._block, self._config, self._tensors, self._source, self._read,
            self._tables | dict(tables),
        )  # fmt: skip

    def start(self, inputs: Ids) -> Array:
        """Rows of the embedding, (B, T, hidden) float32, for (B, T) token ids."""
        self.check_ids(inputs)
        with self._lock:
            embedding = self._embedding
        return embedding.rows(inputs)

    def load_block(self, index: int) -> DecoderBlock:
        """Read block ``index`` from the source; nothing of it is kept."""
        plain = self._tensors.plain(index)
        linears = {}
        for key, name in self.linears(index).items():
            bias = plain.get(f"{key}.bias")
            linears[key] = make_linear(
                self._read(name), None if bias is None else self._source.dense(bias)
            )
        norms = {
            key: self._source.dense(name)
            for key, name in plain.items()
            if key.removesuffix(".bias") not in linears
        }
        return self._block(self._config, index, linears, norms)

    def linears(self, index: int) -> dict[str, str]:
        """Names of the tensors of the linear layers of block ``index``, by key."""
        return self._tensors.linears(index)

    def finish(self, h: Array, execution: Execution = PLAIN) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""
        norm, head = self.end()
        return head(rms_norm(h, norm, self._config.eps), execution)

    def tail(self) -> tuple[Op, ...]:
        """What `finish` does, as data, to the value `LOGITS`."""
        norm, head = self.end()
        return (
            Norm(norm, STREAM, "x", self._config.eps),
            Multiply((head,), "x", (LOGITS,)),
        )

    def end(self) -> tuple[Array, Linear]:
        """The final norm and the head."""
        with self._lock:
            return self._final_norm, self._head

    def release(self) -> None:
        """Forget the weights that were kept; they are read again when next needed."""
        with self._lock:
            for name in ("_embedding", "_final_norm", "_head"):
                self.__dict__.pop(name, None)

    def check_ids(self, ids: Ids) -> None:
        """Refuse token ids outside the vocabulary.

        Raises
        ------
        SpecError
            With the range found and the range known.
        """
        if ids.size and not (int(ids.min()) >= 0 and int(ids.max()) < self._config.vocab):
            raise SpecError(
                f"token ids run from {ids.min()} to {ids.max()}, but the model knows "
                f"0 to {self._config.vocab - 1}; does the tokenizer belong to this model?"
            )

    @cached_property
    def _embedding(self) -> Embedding:
        return make_embedding(self._table(EMBEDDING))

    @cached_property
    def _final_norm(self) -> Array:
        return self._source.dense(self._tensors.plain(None)[FINAL_NORM])

    @cached_property
    def _head(self) -> Linear:
        if HEAD in self._tensors.tables:
            return make_linear(self._table(HEAD))
        return make_linear(self._embedding.matrix)

    def _table(self, role: str) -> Weight:
        given = self._tables.get(role)
        return self._read(self._tensors.tables[role]) if given is None else given
