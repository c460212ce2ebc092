"""A Llama model as the decode kernels read it: made once, read by any number of engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lrc.nn.engine.layout import Layout, has_layout
from lrc.nn.linear import Linear
from lrc.nn.packed import PackedLinear
from lrc.nn.rope import Rope
from lrc_kernels.cpu.dot.product import shared_tables

F32 = NDArray[np.float32]
KEYS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
#: Matrices of a block that share an input: the first of them, and the one after the last.
SITES = ((0, 3), (3, 4), (4, 6), (6, 7))
NORMS = ("input_layernorm", "post_attention_layernorm")


class Config(Protocol):
    """The constants of a Llama model that decoding needs."""

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def intermediate(self) -> int:
        """Width between gate and down."""
        ...

    @property
    def layers(self) -> int:
        """Number of blocks."""
        ...

    @property
    def heads(self) -> int:
        """Query heads."""
        ...

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        ...

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        ...

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        ...

    @property
    def eps(self) -> float:
        """Added to mean squares."""
        ...

    @property
    def rope(self) -> Rope:
        """Rotary frequencies."""
        ...


class Block(Protocol):
    """One decoder block."""

    @property
    def linears(self) -> Mapping[str, Linear]:
        """Linears by checkpoint key."""
        ...

    @property
    def norms(self) -> Mapping[str, F32]:
        """Norm weights by checkpoint key."""
        ...


class DecodeProgram:
    """Every matrix and norm of a model as rows of numbers and addresses; never written to.

    Parameters
    ----------
    config : Config
    blocks : sequence of Block
        On packed or dense linears; their arrays are used where they are.
    final_norm : (hidden,) float32
    head : Linear
        (vocab, hidden).
    """

    def __init__(
        self, config: Config, blocks: Sequence[Block], final_norm: F32, head: Linear
    ) -> None:
        self.config, self.layout = config, Layout()
        for block in blocks:
            linears = [block.linears[key] for key in KEYS]
            for start, stop in SITES:
                self.layout.add_site(linears[start:stop])
        self.layout.add_site([head])
        self.mats, self.nums = self.layout.tables()
        norms = [block.norms[name] for block in blocks for name in NORMS]
        self.norms = np.array(
            [self.layout.address(w.astype(np.float32)) for w in (*norms, final_norm)], np.int64
        )
        self.tables = self.layout.address(shared_tables())


def decode_program_for(
    config: Config, blocks: Sequence[Block], final_norm: F32, head: Linear
) -> DecodeProgram | None:
    """A program where the blocks are packed; None where the plain path is the better one."""
    linears = [f for block in blocks for f in block.linears.values()]
    packed = all(isinstance(f, PackedLinear) for f in linears)
    known = all(has_layout(f) for f in (*linears, head))
    return DecodeProgram(config, blocks, final_norm, head) if packed and known else None
