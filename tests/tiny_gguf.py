"""Write tiny GGUF files of Llama models, for tests of the import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

F32, F16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
Q4_1, Q8_0 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0

#: Tensors that llama.cpp keeps in float32.
EXACT = re.compile(r"\.ssm_(a|d|conv1d)\b|ffn_gate_inp|position_embd")

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "1 2", "i n"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)

#: Keys of the file; heads are grouped and no width is a power of two.
FIELDS: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.context_length": 96,
    "llama.embedding_length": 96,
    "llama.feed_forward_length": 160,
    "llama.attention.head_count": 6,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 5000.0,
    "llama.rope.dimension_count": 16,
    "llama.vocab_size": len(TOKENS),
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 3, *[1] * (len(TOKENS) - 3)],
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": TEMPLATE,
}
SHAPES = {
    "attn_q": (96, 96), "attn_k": (32, 96), "attn_v": (32, 96), "attn_output": (96, 96),
    "ffn_gate": (160, 96), "ffn_up": (160, 96), "ffn_down": (96, 160),
}  # fmt: skip


def tensors(seed: int = 29) -> dict[str, NDArray[np.float32]]:
    """Weights of every tensor, in the row order of GGUF."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    made = {"token_embd.weight": draw(len(TOKENS), 96), "output_norm.weight": draw(96)}
    for i in range(2):
        made |= {f"blk.{i}.{name}.weight": draw(*shape) for name, shape in SHAPES.items()}
        made |= {f"blk.{i}.{name}.weight": draw(96) for name in ("attn_norm", "ffn_norm")}
    return made


def write(
    path: Path,
    weights: dict[str, NDArray[np.float32]] | None = None,
    kind: gguf.GGMLQuantizationType = Q8_0,
    architecture: str = "llama",
    split: int = 0,
    **changes: Any,
) -> Path:
    """Write a file; matrices are stored as ``kind``; a change to None drops the key.

    With ``split``, parts of so many tensors, ``NAME-00001-of-00003.gguf``.

    Names of changes write ``__`` for each dot.
    """
    fields = FIELDS | {name.replace("__", "."): value for name, value in changes.items()}
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    for name, value in fields.items():
        _add(writer, name, value)
    for name, values in (tensors() if weights is None else weights).items():
        block = gguf.GGML_QUANT_SIZES[kind][0]
        whole = values.ndim > 1 and values.shape[-1] % block == 0
        stored = kind if whole and not EXACT.search(name) else F32
        data = values.astype(np.float16) if stored == F16 else gguf.quants.quantize(values, stored)
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    if value is None:
        return
    kinds = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
    getattr(writer, f"add_{kinds[type(value)]}")(name, value)
