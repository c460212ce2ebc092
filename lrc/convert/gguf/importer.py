"""GGUF file of a model to an ordinary Hugging Face directory."""

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
from lrc.convert.gguf.architectures import architecture, hf_config
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.parts import read_parts
from lrc.convert.gguf.places import find_places
from lrc.convert.gguf.rope import FACTORS
from lrc.convert.gguf.special_tokens import special_ids
from lrc.convert.gguf.tokenizer import chat_template, write_tokenizer
from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import TensorSpec
from lrc.formats.safetensors.sharded import write_weights
from lrc.formats.view import stored_shapes
from lrc.models import declared
from lrc.models.views import first_views

#: Called with what is being done, units done and units in all.
Progress = Callable[[str, int, int], None]

#: Tensors that llama.cpp keeps in float32 beside matrices of few bits: routers, state spaces.
_EXACT = re.compile(r"\.ssm_(a|d|conv1d|norm)\b|\.ffn_gate_inp|_norm\.|^position_embd")
_DAMAGE = (ValueError, IndexError, KeyError, OverflowError, TypeError, struct.error, OSError)


class _DoesNotFitError(Exception):
    """A weight is too large for float16."""


def import_gguf(file: Path | str, out_dir: Path | str, progress: Progress | None = None) -> Path:
    """Write the model in a GGUF file as config, tokenizer and safetensors weights.

    Quantised weights are decoded and stored in float16; files whose matrices are in float32,
    or do not fit into float16, are stored in float32. What llama.cpp changes in weights when it
    writes them, such as the row order of q and k, is put back.

    Parameters
    ----------
    file
        The GGUF file, or any of its parts ``NAME-00001-of-00003.gguf``.
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
        An architecture, a setting, a tensor or a tokenizer that is not known.
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
        absent = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        config = {**source.config, **absent, **ids, "torch_dtype": dtype.name}
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
        kind = self.fields.get("general.type", "model")
        if kind != "model":
            raise UnsupportedModelError(f"{path} is a GGUF file of type {kind!r}; expected a model")
        name = self.fields.get("general.architecture")
        self._row = architecture(name)
        shapes = {n: tuple(int(d) for d in reversed(t.shape)) for n, t in found.items()}
        factors = {n: np.asarray(found.pop(n).data) for n in FACTORS if n in found}
        meta = Metadata(self.fields, shapes)
        self.config = hf_config(self._row, meta, factors)
        tensors = declared(self.config)
        self.shapes = stored_shapes(first_views(tensors), tensors.shape)
        names = gguf.get_tensor_name_map(_number(gguf, str(name)), meta.count("block_count"))
        self._tensors = found
        self._places = find_places(
            self.shapes,
            {n: shapes[n] for n in found},
            self._row,
            lambda n: names.get_name(n, (".weight", ".bias")),
        )

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
        """Whether some matrix is stored in float32 that need not be."""
        return any(self._in_float32(t) for n, t in self._tensors.items() if not _EXACT.search(n))

    def stays_float32(self, name: str) -> bool:
        """Whether a tensor is stored in float32 in every file, because it has to be exact."""
        place = self._places[name]
        if place is None or not _EXACT.search(place.name):
            return False
        return self._in_float32(self._tensors[place.name])

    def _in_float32(self, tensor: Any) -> bool:
        return bool(tensor.tensor_type == self._float32 and len(tensor.shape) > 1)

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded, as Hugging Face has it."""
        place = self._places[name]
        if place is None:
            return np.zeros(self.shapes[name], np.float32)
        tensor = self._tensors[place.name]
        data = tensor.data if place.part is None else tensor.data[place.part]
        try:
            values = self._dequantize(data, tensor.tensor_type)
        except NotImplementedError as error:
            raise UnsupportedModelError(f"{self.path}: {name}: {error}") from error
        values = self._row.restore(name, np.asarray(values, np.float32), self.config)
        if not np.isfinite(values).all():
            raise FormatError(f"{self.path}: {name} has NaN or infinite values")
        return values.reshape(self.shapes[name])


def _number(gguf: ModuleType, name: str) -> Any:
    """The number that the package has for an architecture."""
    for number, known in gguf.MODEL_ARCH_NAMES.items():
        if known == name:
            return number
    raise LrcError(f"the package gguf does not know {name!r}; install a newer one")


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
    if settings.get("chat_template") != chat_template(source.fields):
        wrong.append("chat_template")
    if wrong:
        raise FormatError(f"{source.path}: {wrong[0]} did not survive the import")


def _write_weights(
    source: _Source, directory: Path, dtype: np.dtype[Any], progress: Progress | None
) -> None:
    """Write every tensor in ``dtype``; raise _DoesNotFitError when float16 is too narrow."""
    dtypes = {
        name: np.dtype(np.float32) if source.stays_float32(name) else dtype
        for name in source.shapes
    }
    specs = {
        name: TensorSpec("F16" if dtypes[name] == np.float16 else "F32", shape)
        for name, shape in source.shapes.items()
    }
    done = 0

    def read(name: str) -> NDArray[Any]:
        nonlocal done
        values = source.weight(name)
        narrow = dtypes[name] == np.float16
        if narrow and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise _DoesNotFitError(name)
        done += 1
        if progress is not None:
            progress("importing weights", done, len(specs))
        return values.astype(dtypes[name], copy=False)

    write_weights(directory, specs, read)
