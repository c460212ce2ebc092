"""GGUF file of a Llama-type model to an ordinary Hugging Face directory."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_directory, check_output, json_bytes
from lrc.base.strict_json import read_object
from lrc.convert.gguf_config import Shapes, hf_config, tensor_shapes
from lrc.convert.gguf_parts import read_parts
from lrc.convert.gguf_tokenizer import special_ids, write_tokenizer
from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import TensorSpec
from lrc.formats.safetensors.sharded import write_weights

#: Called with what is being done, units done and units in all.
Progress = Callable[[str, int, int], None]

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_DAMAGE = (ValueError, IndexError, KeyError, OverflowError, TypeError, struct.error, OSError)


class _DoesNotFitError(Exception):
    """A weight is too large for float16."""


def import_gguf(file: Path | str, out_dir: Path | str, progress: Progress | None = None) -> Path:
    """Write the model in a GGUF file as config, tokenizer and safetensors weights.

    Quantised weights are decoded and stored in float16; files whose matrices are in float32,
    or do not fit into float16, are stored in float32. The row order of q and k, which GGUF
    permutes for its rotary embedding, is put back. Biases on q, k and v alone are joined by zeros
    on o, which Hugging Face's Llama has with them.

    Parameters
    ----------
    file
        The GGUF file, or any of its parts ``NAME-00001-of-00003.gguf``; its architecture must be
        ``llama``.
    out_dir
        Made by this call; must not exist.
    progress
        Told after each tensor.

    Returns
    -------
    Path
        ``out_dir``.

    Raises
    ------
    LrcError
        The package ``gguf`` is missing.
    FormatError
        The file is missing, damaged or incomplete.
    UnsupportedModelError
        Another architecture, or a setting that the Hugging Face Llama cannot express.
    OutputError
        ``out_dir`` exists or cannot be written.
    """
    target = Path(out_dir)
    check_output(target)
    source = _Source.open(Path(file))
    with atomic_directory(target) as work:
        write_tokenizer(source.fields, work)
        try:
            dtype = np.dtype(np.float32 if source.wants_float32() else np.float16)
            _write_weights(source, work, dtype, progress)
        except _DoesNotFitError:
            for path in work.glob("*.safetensors"):
                path.unlink()
            dtype = np.dtype(np.float32)
            _write_weights(source, work, dtype, progress)
        ids = special_ids(source.fields, source.config["vocab_size"])
        config = {**source.config, **ids, "torch_dtype": dtype.name}
        (work / "config.json").write_bytes(json_bytes(config))
        (work / "generation_config.json").write_bytes(json_bytes(ids))
        _verify(work, source)
    return target


class _Source:
    """Fields and tensors of a GGUF model, under their Hugging Face names."""

    def __init__(self, path: Path, gguf: ModuleType) -> None:
        self.path = path
        self.fields, found = read_parts(path, gguf)
        self._dequantize = gguf.quants.dequantize
        self._float32 = gguf.GGMLQuantizationType.F32
        shapes = {n: tuple(int(d) for d in reversed(t.shape)) for n, t in found.items()}
        factors = found.pop("rope_freqs.weight", None)
        self.config = hf_config(self.fields, shapes, None if factors is None else factors.data)
        self._tensors = {hf_name(name): tensor for name, tensor in found.items()}
        self.shapes = tensor_shapes(self.config)
        have = {hf_name(n): shapes[n] for n in found}
        self._zeros = _zero_biases(self.shapes, have)
        _compare(self.shapes, have | self._zeros)

    @classmethod
    def open(cls, path: Path) -> _Source:
        """Read the header; every failure of the reader becomes a FormatError."""
        try:
            import gguf
        except ImportError as error:
            raise LrcError(
                "reading GGUF needs the package gguf; install it with pip install 'lrc-llm[gguf]'"
            ) from error
        if not path.is_file():
            raise FormatError(f"{path} is not a file; expected a GGUF file")
        try:
            return cls(path, gguf)
        except LrcError:
            raise
        except _DAMAGE as error:
            raise FormatError(f"{path} is not a readable GGUF file ({error})") from error

    def wants_float32(self) -> bool:
        """Whether some matrix is stored in float32."""
        return any(
            t.tensor_type == self._float32 and len(t.shape) == 2 for t in self._tensors.values()
        )

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded, in Hugging Face row order."""
        if name in self._zeros:
            return np.zeros(self.shapes[name], np.float32)
        tensor = self._tensors[name]
        try:
            values = self._dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise UnsupportedModelError(f"{self.path}: {name}: {error}") from error
        values = np.asarray(values, np.float32).reshape(self.shapes[name])
        if not np.isfinite(values).all():
            raise FormatError(f"{self.path}: {name} has NaN or infinite values")
        if ".q_proj." in name:
            return unpermute(values, self.config["num_attention_heads"])
        if ".k_proj." in name:
            return unpermute(values, self.config["num_key_value_heads"])
        return values


def hf_name(name: str) -> str:
    """Hugging Face name of a GGUF tensor of a Llama model.

    Raises
    ------
    UnsupportedModelError
        The Llama model of Hugging Face has no such tensor.

    Examples
    --------
    >>> hf_name("blk.3.attn_q.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    if name in _TOP:
        return _TOP[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match is None or match[2] not in _IN_BLOCK:
        raise UnsupportedModelError(f"GGUF tensor {name!r} has no place in a Llama model")
    return f"model.layers.{int(match[1])}.{_IN_BLOCK[match[2]]}.{match[3]}"


def unpermute(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo GGUF's row order of q and k.

    GGUF keeps the two halves of each head's rotary pairs interleaved, Hugging Face one after
    the other.

    Parameters
    ----------
    values
        (heads * head_dim, ...) weight or bias.
    heads
        Number of heads of this matrix.

    Examples
    --------
    >>> unpermute(np.arange(8, dtype=np.float32), 2).astype(int).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows, rest = values.shape[0], values.shape[1:]
    pairs = values.reshape(heads, rows // heads // 2, 2, *rest)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def _zero_biases(expected: Shapes, found: Shapes) -> dict[str, tuple[int, ...]]:
    """Biases of o_proj, which Hugging Face asks for beside those of q, k and v, if none is there.

    Models that were trained with biases on q, k and v alone are the same with zeros on o.
    """
    biases = {name: s for name, s in expected.items() if name.endswith("o_proj.bias")}
    return {} if biases.keys() & found.keys() else biases


def _compare(expected: Shapes, found: Shapes) -> None:
    """Exactly the expected tensors, each in its shape."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        raise FormatError(f"the GGUF file lacks {missing[0]} ({len(missing)} tensors missing)")
    if extra:
        raise UnsupportedModelError(f"the GGUF file has {extra[0]}, which its config does not use")
    for name, shape in expected.items():
        if found[name] != shape:
            raise FormatError(f"{name} has shape {found[name]} in the GGUF file; expected {shape}")


def _verify(directory: Path, source: _Source) -> None:
    """Read back what was written: tensors, vocabulary, special tokens and chat template."""
    from tokenizers import Tokenizer

    written = Checkpoint.open(directory)
    wrong = [name for name, shape in source.shapes.items() if written.shape(name) != shape]
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    settings = read_object(directory / "tokenizer_config.json")
    ids = read_object(directory / "generation_config.json")
    if tokenizer.get_vocab_size() > written.config["vocab_size"]:
        wrong.append("vocabulary")
    for name in ("bos", "eos", "pad"):
        given = ids.get(f"{name}_token_id")
        first = given[0] if isinstance(given, list) else given
        token = settings.get(f"{name}_token")
        if first != (None if token is None else tokenizer.token_to_id(token)):
            wrong.append(f"{name}_token")
    if settings.get("chat_template") != source.fields.get("tokenizer.chat_template"):
        wrong.append("chat_template")
    if wrong:
        raise FormatError(f"{source.path}: {wrong[0]} did not survive the import")


def _write_weights(
    source: _Source, directory: Path, dtype: np.dtype[Any], progress: Progress | None
) -> None:
    """Write every tensor in ``dtype``; raise _DoesNotFitError when float16 is too narrow."""
    specs = {
        name: TensorSpec("F16" if dtype == np.float16 else "F32", shape)
        for name, shape in source.shapes.items()
    }
    done = 0

    def read(name: str) -> NDArray[Any]:
        nonlocal done
        values = source.weight(name)
        if dtype == np.float16 and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise _DoesNotFitError(name)
        done += 1
        if progress is not None:
            progress("importing weights", done, len(specs))
        return values.astype(dtype, copy=False)

    write_weights(directory, specs, read)
