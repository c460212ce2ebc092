"""The header of a GGUF file, walked through once: no count or length leads beyond the file's end.

The package gguf takes what is there beyond the end for empty arrays, and an absurd count for as
many of them. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from lrc.errors import FormatError

_MAGIC = b"GGUF"
#: Bytes of a value by its type; strings and arrays say how long they are.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
#: Arrays in arrays, and sides of a tensor.
_DEPTH, _SIDES = 4, 4


def check_header(path: Path) -> None:
    """Refuse a file whose header does not fit into it.

    Raises
    ------
    FormatError
        It is no GGUF file, or ends before its header does.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise FormatError(f"{path} is not a readable GGUF file (it does not begin as one)")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _Header(path, data).walk()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error


class _Header:
    """A place in a file that moves on."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._at = path, data, len(_MAGIC)
        self._order = "<"

    def walk(self) -> None:
        """Pass everything up to the tensors' values."""
        if self._number("I") & 0xFFFF == 0:  # a version, in the other order of bytes
            self._order = ">"
        tensors, fields = self._number("Q"), self._number("Q")
        for _ in range(fields):
            self._skip(self._number("Q"))
            self._value(self._number("I"), 0)
        for _ in range(tensors):
            self._skip(self._number("Q"))
            sides = self._number("I")
            if sides > _SIDES:
                raise self._damaged(f"a tensor has {sides} sides")
            self._skip(8 * sides + 4 + 8)

    def _value(self, kind: int, depth: int) -> None:
        if kind in _SIZES:
            self._skip(_SIZES[kind])
        elif kind == _STRING:
            self._skip(self._number("Q"))
        elif kind == _ARRAY and depth < _DEPTH:
            inner, count = self._number("I"), self._number("Q")
            if inner in _SIZES:
                self._skip(count * _SIZES[inner])
            else:
                for _ in range(count):
                    self._value(inner, depth + 1)
        else:
            raise self._damaged(f"a value is of the unknown type {kind}")

    def _number(self, code: str) -> int:
        start = self._at
        self._skip(struct.calcsize(code))
        value: int = struct.unpack_from(self._order + code, self._data, start)[0]
        return value

    def _skip(self, count: int) -> None:
        if count > len(self._data) - self._at:
            raise self._damaged("its header leads beyond its end")
        self._at += count

    def _damaged(self, what: str) -> FormatError:
        return FormatError(f"{self._path} is not a readable GGUF file ({what}); fetch it again")
