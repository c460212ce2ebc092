"""Attention to all of a value, be it the stream itself or what another stack has made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lrc.errors import SpecError
from lrc.nn.attention import full_attention
from lrc.nn.cache import KVCache
from lrc.nn.ops import Array, Multiply, Op, Pass, Values

#: What the stack before has made of its input; it has tokens of its own.
MEMORY = "memory"


class MemoryCache(KVCache):
    """Keys and values of the tokens seen so far, and those of the memory that all of them see.

    Parameters
    ----------
    memory : (batch, S, width) float32
    layers, kv_heads, max_length, head_dim : int
        As of `KVCache`.
    """

    def __init__(
        self, memory: Array, layers: int, kv_heads: int, max_length: int, head_dim: int
    ) -> None:
        super().__init__(layers, len(memory), kv_heads, max_length, head_dim)
        self.memory = memory
        self.of_memory: dict[int, tuple[Array, ...]] = {}


@dataclass(frozen=True, eq=False)
class MultiplyMemory(Multiply):
    """Linear layers of `MEMORY`; their products stay in a cache, and are made once a text."""

    name: ClassVar[str] = "linear layers of the memory"
    layer: int = 0

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The products, or those that the cache holds."""
        if at.cache is None:
            return super().run(values, at)
        if not isinstance(at.cache, MemoryCache):
            raise SpecError("this model listens before it writes; give it audio, as lrc transcribe")
        if self.layer not in at.cache.of_memory:
            at.cache.of_memory[self.layer] = super().run(values, at)
        return at.cache.of_memory[self.layer]


@dataclass(frozen=True)
class AttendAll(Op):
    """Attention of every token to all ``keys``, which may be more or fewer than the queries."""

    name: ClassVar[str] = "attention to all tokens"
    queries: str
    keys: str
    values: str
    target: str
    head_dim: int

    @property
    def reads(self) -> tuple[str, ...]:
        """Queries, keys and values."""
        return (self.queries, self.keys, self.values)

    @property
    def writes(self) -> tuple[str, ...]:
        """The target."""
        return (self.target,)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The attention; see `full_attention`."""
        q, k, v = (
            values[name].reshape(*values[name].shape[:-1], -1, self.head_dim) for name in self.reads
        )
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        return (full_attention(q, k, v, at.execution),)
