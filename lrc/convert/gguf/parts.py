"""A GGUF model in one file, or in parts named ``NAME-00001-of-00003.gguf``.

The first part has the settings; each has its number, from 0, in ``split.no`` and how many there
are in ``split.count``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lrc.base.lfs import refuse_pointer
from lrc.convert.gguf.header import check_header
from lrc.errors import FormatError

#: What the package gguf raises for files that are not what they should be.
DAMAGE = (ValueError, IndexError, KeyError, OverflowError, TypeError, struct.error, OSError)
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def read_parts(path: Path, gguf: ModuleType) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read settings and tensors, those of every part where the file is one of several.

    Parameters
    ----------
    path
        A GGUF file, or any part of a model.
    gguf
        The package of that name.

    Returns
    -------
    fields
        Keys and values of the first part.
    tensors
        GGUF name to the reader's tensor, memory-mapped.

    Raises
    ------
    FormatError
        A part is missing or damaged, or does not belong to the others.
    """
    fields, tensors = _read_file(path, gguf)
    paths = _part_paths(path, fields)
    if len(paths) == 1:
        return fields, {tensor.name: tensor for tensor in tensors}
    found: dict[str, Any] = {}
    settings = []
    for part in paths:
        fields, tensors = _read_file(part, gguf)
        settings.append(fields)
        for tensor in tensors:
            if tensor.name in found:
                raise FormatError(f"{part} has {tensor.name}, which an earlier part has too")
            found[tensor.name] = tensor
    _check(paths, settings, len(found))
    return settings[0], found


def _read_file(path: Path, gguf: ModuleType) -> tuple[dict[str, Any], list[Any]]:
    refuse_pointer(path)
    check_header(path)
    try:
        with np.errstate(all="ignore"):  # offsets that overflow lead nowhere, and are refused
            reader = gguf.GGUFReader(path)
        return {name: field.contents() for name, field in reader.fields.items()}, reader.tensors
    except DAMAGE as error:
        raise FormatError(f"{path} is not a readable GGUF file ({error})") from error


def _part_paths(path: Path, fields: Mapping[str, Any]) -> list[Path]:
    """Files of the model that ``path``, with these settings, is or is a part of, in order."""
    count = fields.get("split.count", 1)
    if count in (0, 1):
        return [path]
    number = fields.get("split.no")
    if not (type(count) is int and type(number) is int and 0 <= number < count):
        raise FormatError(f"{path} has split.no {number!r} and split.count {count!r}")
    match = _NAME.fullmatch(path.name)
    if match is None or (int(match[2]), int(match[3])) != (number + 1, count):
        raise FormatError(
            f"{path} is part {number + 1} of {count} of a GGUF model; expected the name "
            f"{_part_name('NAME', number, count)}, and the other parts beside it: rename it"
        )
    paths = [path.with_name(_part_name(match[1], i, count)) for i in range(count)]
    missing = [part.name for part in paths if not part.is_file()]
    if missing:
        raise FormatError(
            f"{path} is part {number + 1} of {count}, and beside it there is no "
            f"{', '.join(missing)}; fetch every part"
        )
    return paths


def _check(paths: list[Path], settings: list[dict[str, Any]], tensors: int) -> None:
    """Check that files with these settings are the parts, in order, of one model."""
    for i, (path, fields) in enumerate(zip(paths, settings, strict=True)):
        number, count = fields.get("split.no"), fields.get("split.count")
        if (number, count) != (i, len(paths)):
            raise FormatError(
                f"{path} has split.no {number!r} and split.count {count!r}; expected {i} and "
                f"{len(paths)}: fetch it again"
            )
    announced = settings[0].get("split.tensors.count", tensors)
    if announced != tensors:
        raise FormatError(
            f"{paths[0]} announces {announced} tensors and its {len(paths)} parts have {tensors}; "
            "fetch them again"
        )


def _part_name(name: str, number: int, count: int) -> str:
    return f"{name}-{number + 1:05d}-of-{count:05d}.gguf"
