"""Two blocks in the shape of a 7-billion Llama, with random codes: only their speed counts."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_tensors import linear_shapes
from lrc.nn.cache import KVCache
from lrc.nn.engine.engines import Engines
from lrc.nn.engine.team import Team
from lrc.nn.ops import LOGITS, STREAM, Multiply, Norm, Op
from lrc.nn.packed import PackedLinear
from lrc.nn.rope import Rope
from lrc.parts.codes import Codes
from lrc.parts.matrix import PackedMatrix

BLOCKS = 2
CONFIG: Any = SimpleNamespace(
    hidden=4096, intermediate=11008, layers=BLOCKS, heads=32, kv_heads=32, head_dim=128,
    vocab=64, eps=1e-5, rope=Rope(128), windows=(0,) * BLOCKS,
)  # fmt: skip


def matrix(shape: tuple[int, int], seed: int) -> PackedMatrix:
    """Random 2-bit lattice codes; the signs of the input are the same for every matrix."""
    m, n = shape
    rng = np.random.default_rng(seed)
    signs = np.random.default_rng(n)
    planes = (rng.integers(0, 1 << 16, (m, n // 8), dtype=np.uint16),)
    return PackedMatrix(
        shape=shape, gain=n**-0.5, rotation="hadamard",
        signs_in=signs.integers(0, 256, n // 8).astype(np.uint8),
        signs_out=rng.integers(0, 256, m // 8).astype(np.uint8),
        parts=(Codes(shape, "e8p", 2, 0, planes, np.ones((1, 1), np.float16)),),
    )  # fmt: skip


def engine(threads: int) -> Callable[[], Any]:
    """A function that decodes one token, over and over at position 16."""
    ones = np.ones(CONFIG.hidden, np.float32)
    norms = {"input_layernorm": ones, "post_attention_layernorm": ones}
    body: list[Op] = []
    for index in range(BLOCKS):
        linears = {
            key: PackedLinear(matrix(shape, 100 * index + i))
            for i, (key, shape) in enumerate(linear_shapes(CONFIG).items())
        }
        body += DecoderBlock(CONFIG, index, linears, norms).ops()
    head = PackedLinear(matrix((CONFIG.vocab, CONFIG.hidden), 7))
    tail = (Norm(ones, STREAM, "x", CONFIG.eps), Multiply((head,), "x", (LOGITS,)))
    made = Engines(CONFIG.hidden, body, tail).decode(Team(threads))
    assert made is not None
    cache = KVCache(BLOCKS, 1, CONFIG.kv_heads, 64, CONFIG.head_dim)
    cache.advance(16)
    before = cache.branch()
    start = np.random.default_rng(8).standard_normal(CONFIG.hidden).astype(np.float32)

    def step() -> Any:
        cache.adopt(before)
        return made.step(start, cache, head=False)

    step()
    return step


def bytes_per_token() -> int:
    """Bytes of codes that a token reads in the blocks."""
    return BLOCKS * sum(m * n // 4 for m, n in linear_shapes(CONFIG).values())
