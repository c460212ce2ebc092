"""A compressed model as an ordinary dense Hugging Face directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_directory, check_output, json_bytes
from lrc.convert.biases import config_with_biases
from lrc.convert.plain_codes import dense_codes
from lrc.errors import FormatError
from lrc.formats.safetensors.sharded import MAX_SHARD_BYTES, write_weights
from lrc.formats.safetensors.writing import TensorSpec
from lrc.formats.side_files import copy_side_files
from lrc.formats.view import stored_shapes
from lrc.models.opened import open_model
from lrc.models.views import first_views

#: Called with what is being done, units done and units in all.
Progress = Callable[[str, int, int], None]


def export_hf(
    packed_dir: Path | str,
    out_dir: Path | str,
    progress: Progress | None = None,
    *,
    note: Callable[[str], None] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    low_rank: bool = True,
) -> Path:
    """Decode a model into float16 weights that any Hugging Face program reads.

    Tensors lie where the model's family usually has them (:mod:`lrc.models.views`); one of those
    is in memory at a time, and what the model does not read is left out. Every other file is
    copied byte for byte, except that config.json tells the new dtype.

    Parameters
    ----------
    packed_dir
        A compressed directory; a dense one is rewritten in float16.
    out_dir
        Made by this call; must not exist.
    progress
        Told after each tensor.
    note
        Told what is stored and not read.
    max_shard_bytes
        Weights beyond this size are split into several files.
    low_rank
        Whether factors L R are a part of the weights; else they are left out.

    Returns
    -------
    Path
        ``out_dir``.

    Raises
    ------
    FormatError
        The model cannot be read, or a weight does not fit into float16.
    UnsupportedModelError
        The configuration, or a tensor, asks for something that is not computed here; or the
        family has no place for biases that compression added.
    OutputError
        ``out_dir`` exists or cannot be written.
    """
    target = Path(out_dir)
    check_output(target)
    model, source = open_model(packed_dir)
    biased = config_with_biases(source.config, model.tensors)
    views = first_views(model.tensors)
    shapes = stored_shapes(views, source.shape)
    specs = {name: TensorSpec("F16", shapes[name]) for name in sorted(shapes)}
    parts: dict[str, list[str]] = {}
    for part, view in views.items():
        parts.setdefault(view.stored, []).append(part)
    side_files = source.other_files()
    if note is not None:
        for line in model.notes:
            note(line)
    done = 0

    def read(name: str) -> NDArray[Any]:
        nonlocal done
        values = np.empty(shapes[name], np.float16)
        for part in parts[name]:
            weight = source.dense(part) if low_rank else dense_codes(source, part)
            views[part].put(to_float16(weight, part), values)
        done += 1
        if progress is not None:
            progress("exporting weights", done, len(specs))
        return values

    with atomic_directory(target) as work:
        copy_side_files(source.path, side_files, work)
        # An unlimited step size of Mamba-2 is an Infinity there.
        config = json_bytes(with_dtype(biased), infinite=True)
        (work / "config.json").write_bytes(config)
        write_weights(work, specs, read, max_shard_bytes=max_shard_bytes)
    return target


def export_hf_codes(
    packed_dir: Path | str,
    out_dir: Path | str,
    progress: Progress | None = None,
    *,
    note: Callable[[str], None] | None = None,
) -> Path:
    """:func:`export_hf` without factors L R, which ``lrc export --to peft`` writes."""
    return export_hf(packed_dir, out_dir, progress, note=note, low_rank=False)


def to_float16(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """Round to float16; FormatError naming the tensor when a value is beyond its range.

    Examples
    --------
    >>> to_float16(np.array([1.0, 0.1], np.float32), "w").tolist()
    [1.0, 0.0999755859375]
    """
    largest = float(np.abs(values).max(initial=0))
    if not largest <= float(np.finfo(np.float16).max):
        raise FormatError(f"tensor {name!r} reaches {largest:g}, which float16 cannot hold")
    with np.errstate(under="ignore"):
        return values.astype(np.float16)


def with_dtype(config: dict[str, Any]) -> dict[str, Any]:
    """Copy of the config that says float16, under every key that it used."""
    used = [key for key in ("dtype", "torch_dtype") if key in config] or ["torch_dtype"]
    return {**config, **dict.fromkeys(used, "float16")}
