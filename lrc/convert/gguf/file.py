"""GGUF files, whole or absent, one tensor in memory at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import check_output
from lrc.base.lock import LockedFile
from lrc.base.partial import sync_directory
from lrc.errors import LrcError

_KINDS = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}


def gguf_package() -> ModuleType:
    """The package ``gguf``.

    Raises
    ------
    LrcError
        It is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise LrcError(
            "GGUF files need the package gguf; install it with pip install 'lrc-llm[gguf]'"
        ) from error
    return gguf


@dataclass(frozen=True)
class StoredTensor:
    """A tensor to be written: name, type, shape and dtype of what is stored, and its maker."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


def write_gguf(
    path: Path,
    architecture: str,
    fields: Mapping[str, Any],
    tensors: Iterable[StoredTensor],
    tell: Callable[[int], object] = lambda done: None,
) -> Path:
    """Write a file that appears complete or not at all.

    Parameters
    ----------
    fields
        Whole keys, without ``general.architecture``.
    tell
        Told how many tensors are written.

    Raises
    ------
    OutputError
        ``path`` exists or cannot be written.
    """
    gguf = gguf_package()
    check_output(path)
    listed = list(tensors)
    with _appearing(path) as work:
        writer = gguf.GGUFWriter(work, architecture)
        try:
            for key, value in fields.items():
                getattr(writer, f"add_{_KINDS[type(value)]}")(key, value)
            for tensor in listed:
                size = int(np.prod(tensor.shape)) * tensor.dtype.itemsize
                kind = gguf.GGMLQuantizationType[tensor.kind]
                writer.add_tensor_info(tensor.name, tensor.shape, tensor.dtype, size, kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for done, tensor in enumerate(listed, 1):
                writer.write_tensor_data(np.ascontiguousarray(tensor.read()))
                tell(done)
        finally:
            writer.close()
    return path


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to, which becomes ``path``."""
    path = path.absolute()
    with LockedFile.take(path.with_name(path.name + ".partial")) as partial:
        try:
            yield partial.path
            partial.close_where_open_files_stay()
            with open(partial.path, "rb") as written:
                os.fsync(written.fileno())
            os.replace(partial.path, path)
            sync_directory(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.remove()
            raise
