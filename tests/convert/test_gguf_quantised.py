"""Matrices of every type that the package ``gguf`` decodes, whole and in stacks of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_gguf
from numpy.typing import NDArray

from lrc.convert.gguf import import_gguf
from lrc.formats.safetensors.checkpoint import Checkpoint

TYPES = [kind for kind in gguf.GGMLQuantizationType if kind in gguf.quants._type_traits]
WIDTH = 256  # the longest block of a type


def packed(shape: tuple[int, ...], kind: Any, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random bytes whose scales are finite: no half has an exponent above that of 1."""
    *rows, width = shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return rng.integers(0, 256, (*rows, width // block * size)).astype(np.uint8) & 0x3B


def write(path: Path, kind: Any) -> dict[str, NDArray[np.float32]]:
    """A Llama model of one block, whose matrices are of this type; its values by GGUF name."""
    fields = tiny_gguf.FIELDS | {
        "llama.block_count": 1, "llama.embedding_length": WIDTH, "llama.attention.head_count": 4,
        "llama.feed_forward_length": WIDTH, "llama.rope.dimension_count": WIDTH // 4,
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in fields.items():
        tiny_gguf._add(writer, name, value)
    rng, values = np.random.default_rng(7), {}
    rows = {"attn_k": WIDTH // 2, "attn_v": WIDTH // 2}
    for name in tiny_gguf.SHAPES:
        data = packed((rows.get(name, WIDTH), WIDTH), kind, rng)
        values[f"blk.0.{name}.weight"] = gguf.quants.dequantize(data, kind)
        writer.add_tensor(f"blk.0.{name}.weight", data, raw_dtype=kind)
    table = np.ones((len(tiny_gguf.TOKENS), WIDTH), np.float16)
    writer.add_tensor("token_embd.weight", table, raw_dtype=tiny_gguf.F16)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32), raw_dtype=tiny_gguf.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_matrices_of_every_type_are_decoded(tmp_path: Path, kind: Any) -> None:
    values = write(tmp_path / "m.gguf", kind)
    checkpoint = Checkpoint.open(import_gguf(tmp_path / "m.gguf", tmp_path / "out"))
    names = {"ffn_down": "mlp.down_proj", "attn_v": "self_attn.v_proj"}
    for name, hf_name in names.items():
        expected = values[f"blk.0.{name}.weight"].astype(np.float16)
        found = checkpoint.dense(f"model.layers.0.{hf_name}.weight")
        np.testing.assert_array_equal(found, expected)
    assert len({float(v) for v in values["blk.0.ffn_down.weight"].ravel()[:WIDTH]}) > 1
