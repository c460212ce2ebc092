"""GGUF file of a model to an ordinary Hugging Face directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_directory, check_output, json_bytes
from lrc.base.strict_json import read_object
from lrc.convert.gguf.source import Source
from lrc.convert.gguf.special_tokens import special_ids
from lrc.convert.gguf.tokenizer import chat_template, write_tokenizer
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.sharded import write_weights
from lrc.formats.safetensors.writing import TensorSpec

#: Called with what is being done, units done and units in all.
Progress = Callable[[str, int, int], None]


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
    source = Source.open(Path(file))
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


def _verify(directory: Path, source: Source) -> None:
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
    source: Source, directory: Path, dtype: np.dtype[Any], progress: Progress | None
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
