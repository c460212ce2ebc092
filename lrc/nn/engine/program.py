"""A model's operations, checked, with every matrix laid out: what decoding and prompts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.nn.cache import KVCache
from lrc.nn.engine.layout import Layout, without_layout
from lrc.nn.engine.rows import Row
from lrc.nn.engine.token_rules import TOKEN_RULES, Context
from lrc.nn.engine.widths import OTHERS, experts_are_apart, widths_after
from lrc.nn.kept_layer import KeptLayer
from lrc.nn.ops import STREAM, Attend, Multiply, Op, Rotate
from lrc.nn.packed import PackedLinear
from lrc.nn.rope import Rope, rope_tables
from lrc.nn.state_space import SelectiveScan
from lrc_kernels.cpu.engine import table
from lrc_kernels.cpu.engine.kept_codes import decode_codes, keep_codes
from lrc_kernels.cpu.engine.token_attention import attend_codes
from lrc_kernels.cpu.scan.selective import LANES
from lrc_kernels.hadamard_order import hadamard_block
from lrc_kernels.rotate import signs_matrix


def outside(body: Sequence[Op], tail: Sequence[Op]) -> str:
    """Why the compiled loops do not run a model; an empty text where they do.

    Parameters
    ----------
    body : sequence of Op
        Of all blocks, whose matrices are to be packed, some of them at least.
    tail : sequence of Op
        From the residual stream to logits, whose matrices may be dense.
    """
    for op in (*body, *tail):
        if reason := _outside(op):
            return reason
    if not experts_are_apart(body):
        return "experts whose operations are not apart"
    linears = [f for op in body if isinstance(op, Multiply) for f in op.linears]
    if not any(isinstance(f, PackedLinear) for f in linears):
        return "weights that are not packed"
    linears += [f for op in tail if isinstance(op, Multiply) for f in op.linears]
    return next((reason for f in linears if (reason := without_layout(f))), "")


def _outside(op: Op) -> str:
    """Why the compiled loops do not know an operation; an empty text where they do."""
    if type(op) in OTHERS:
        return ""
    rule = TOKEN_RULES.get(type(op))
    return op.name if rule is None else rule.outside(op)


@dataclass(frozen=True, eq=False)
class Angles:
    """Cosines and sines f32 (T, rotated / 2) of every rope, and their addresses (ropes, 2)."""

    addresses: NDArray[np.int64]
    tables: list[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class Cached:
    """A row of `table` for what each layer of a cache keeps, (layers, `table.CACHE`)."""

    rows: NDArray[np.int64]
    layers: tuple[KeptLayer, ...]


class Program:
    """The operations of a model, the widths of their values, and where their matrices are.

    Parameters
    ----------
    hidden : int
        Width of the residual stream.
    body, tail : sequence of Op
        See `outside`, which has nothing against them.

    Attributes
    ----------
    ops
        All of them.
    body
        How many of them are of blocks.
    widths
        Of every value, by its name; the widest, where a name is used again.
    ropes
        The rotary frequencies that are used.
    states
        Shapes of what operations carry from token to token, by name.
    layout
        Of all matrices, in the order of the operations.

    Raises
    ------
    ValueError
        When widths do not fit: addresses alone would not tell.
    """

    def __init__(self, hidden: int, body: Sequence[Op], tail: Sequence[Op]) -> None:
        self.ops, self.body = (*body, *tail), len(body)
        self.layout = Layout()
        self._sizes: list[dict[str, int]] = []
        self._first: dict[int, int] = {}
        now = {STREAM: hidden}
        ropes: dict[Rope, None] = {}
        self.states: dict[str, tuple[int, ...]] = {}
        matrices = 0
        for i, op in enumerate(self.ops):
            now = now | widths_after(op, now)
            self.states |= op.states
            self._sizes.append(now)
            if isinstance(op, Multiply):
                self._first[i] = matrices
                matrices += len(op.linears)
                self.layout.add_site(op.linears)
            elif isinstance(op, Rotate):
                ropes[op.rope] = None
        self.ropes = tuple(ropes)
        self.mats, self.nums = self.layout.tables()
        self.hidden = hidden
        self.widths: dict[str, int] = {}
        for sizes in self._sizes:
            for name, width in sizes.items():
                self.widths[name] = max(width, self.widths.get(name, 0))

    def width(self, index: int, name: str) -> int:
        """Width of a value after operation ``index``."""
        return self._sizes[index][name]

    def first_matrix(self, index: int) -> int:
        """Row of the first matrix of operation ``index``; the others follow it."""
        return self._first[index]

    def state(self, name: str) -> int:
        """Number of a state."""
        return list(self.states).index(name)

    @property
    def head_dim(self) -> int:
        """Of the widest heads; 0 without attention."""
        return max((op.head_dim for op in self.ops if isinstance(op, Attend)), default=0)

    @property
    def scanned(self) -> int:
        """Numbers of a thread's own that a selective scan works on."""
        states = (len(op.decay) for op in self.ops if isinstance(op, SelectiveScan))
        return 2 * LANES * max(states, default=0)

    @property
    def together(self) -> int:
        """The most matrices that share an input."""
        return max(len(op.linears) for op in self.ops if isinstance(op, Multiply))

    @property
    def context(self) -> Context:
        """What rows refer to."""
        return Context(self.layout, self.ropes)

    def rows(self, index: int) -> Sequence[Row]:
        """Rows of `table.compute` for an operation on one token alone."""
        op = self.ops[index]
        return TOKEN_RULES[type(op)].rows(op, self._sizes[index], self.context)

    def angles(self, positions: NDArray[np.integer], length: int) -> Angles:
        """Cosines and sines of every rope at these positions, of a cache with so much room."""
        tables = [rope_tables(rope, positions, length) for rope in self.ropes]
        addresses = [(cos.ctypes.data, sin.ctypes.data) for cos, sin in tables]
        return Angles(np.array(addresses or [(0, 0)], np.int64), tables)

    def cached(self, cache: KVCache, known: Cached | None = None) -> Cached:
        """What ``cache`` keeps, as rows; ``known`` where that is still so.

        Raises
        ------
        SpecError
            When the cache is of another model, or holds several sequences.
        """
        if known is not None and known.layers is cache.layers:
            return known
        kept = [layer.keys for layer in cache.layers] or list(cache.states.values())
        sequences = {len(array) for array in kept} - {1}
        if sequences:
            raise SpecError(f"the cache is for {min(sequences)} sequences; the engines take 1")
        for name, shape in self.states.items():
            if name not in cache.states or cache.states[name].shape != (1, *shape):
                raise SpecError(
                    f"the cache has no state {name} of shape {shape}; "
                    "make one with this model's new_cache"
                )
        for op in self.ops:
            if isinstance(op, Attend):
                _check_layer(op, cache)
        rows = [_cache_row(layer) for layer in cache.layers]
        return Cached(np.array(rows, np.int64).reshape(-1, table.CACHE), cache.layers)


def _cache_row(layer: KeptLayer) -> list[int]:
    """Addresses and sizes of what a layer keeps."""
    addresses = [array.ctypes.data for array in layer.arrays]
    row = [*addresses[:2], layer.keys.shape[2], layer.begin]
    if not layer.bits:
        return row + [0] * (table.CACHE - len(row))
    block, order = hadamard_block(layer.head_dim)
    # One for each order, which is never let go of.
    matrix = signs_matrix(order).ctypes.data if order > 1 else 0
    entries = (kernels.address(layer.bits) for kernels in (keep_codes, decode_codes, attend_codes))
    return [*row, layer.bits, *addresses[2:], block, order, matrix, *entries]


def _check_layer(op: Attend, cache: KVCache) -> None:
    """Refuse a cache without a layer for an operation, or with one that keeps less than it sees."""
    for layer in cache.layers[op.layer : op.layer + 1]:
        heads, dim = layer.keys.shape[1], layer.head_dim
        sees_all_kept = not layer.window or 0 < op.window <= layer.window
        if (heads, dim) == (op.kv_heads, op.head_dim) and sees_all_kept:
            return
    raise SpecError(
        f"the cache has no layer {op.layer} of {op.kv_heads} heads of {op.head_dim} numbers that "
        f"keeps {op.window or 'all'} tokens; make one with this model's new_cache"
    )
