"""A small Llama whose widths are whole blocks of 32 and of 256, for tests of GGUF out."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import tiny_gguf

from lrc import compress
from lrc.convert.gguf import import_gguf
from lrc.convert.gguf.target_types import for_gguf
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec


def shapes_of(width: int) -> dict[str, tuple[int, int]]:
    """Rows and columns of a block's matrices."""
    return {
        "attn_q": (width, width), "attn_k": (width // 2, width), "attn_v": (width // 2, width),
        "attn_output": (width, width), "ffn_gate": (256, width), "ffn_up": (256, width),
        "ffn_down": (width, 256),
    }  # fmt: skip


def plain(kind: str, rank: int = 0) -> CompressSpec:
    """One grid for all matrices, and factors of 16 bits."""
    quant = QuantSpec(kind, int(kind[1]))
    low_rank = LowRankSpec(rank, factor_bits=16)
    return CompressSpec(decompose=DecomposeSpec(quant=quant, low_rank=low_rank, rotation="none"))


def write_dense(folder: Path, width: int = 64) -> Path:
    """The model as a directory, by way of a file."""
    rng = np.random.default_rng(3)
    shapes = {"token_embd.weight": (len(tiny_gguf.TOKENS), width), "output_norm.weight": (width,)}
    for i in range(2):
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in shapes_of(width).items()}
        shapes |= {f"blk.{i}.{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
    drawn = {k: rng.normal(0, 0.1, s).astype("f4") + (len(s) == 1) for k, s in shapes.items()}
    file = tiny_gguf.write(
        folder / "m.gguf", drawn, gguf.GGMLQuantizationType.F32, llama__embedding_length=width,
        llama__feed_forward_length=256, llama__attention__head_count=width // 16,
        llama__attention__head_count_kv=width // 32,
    )  # fmt: skip
    return import_gguf(file, folder / "dense")


def write_packed(dense: Path, out: Path, kind: str = "Q2_K_M", rank: int = 4) -> Path:
    """The same, compressed with a mix of types, or one, and a small rank."""
    spec = for_gguf(dense, plain("q4_k", rank), kind, rank=rank > 0)
    windows = np.random.default_rng(5).integers(3, len(tiny_gguf.TOKENS), (4, 48))
    compress(dense, out, spec, windows=windows, threads=1)
    return out
