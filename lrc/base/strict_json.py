"""JSON that is refused when a key occurs twice, or when it is not the expected object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lrc.base.lfs import refuse_pointer
from lrc.errors import FormatError

#: Digits of an integer, sign included: float64 holds every such number.
_DIGITS = 300


def parse_object(text: bytes, what: str, *, unique: bool = True) -> dict[str, Any]:
    """Parse ``text`` as one JSON object.

    Parameters
    ----------
    text
        UTF-8 JSON.
    what
        Named in the error, e.g. ``"header of model.safetensors"``.
    unique
        Refuse an object that gives the same key twice.

    Raises
    ------
    FormatError
        Not UTF-8, not JSON, not an object, nested too deeply, a key given twice, or an integer
        that no float holds.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(items)
        if unique and len(values) < len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise FormatError(f"{what} gives the key {twice!r} twice; expected each key once")
        return values

    def integer(digits: str) -> int:
        if len(digits) > _DIGITS:
            raise FormatError(
                f"{what} has an integer of {len(digits)} digits; expected at most {_DIGITS}"
            )
        return int(digits)

    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_int=integer)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not valid JSON ({error}); expected a JSON object") from error
    if not isinstance(parsed, dict):
        raise FormatError(f"{what} holds a {type(parsed).__name__}; expected a JSON object")
    return parsed


def read_object(path: Path, *, unique: bool = True) -> dict[str, Any]:
    """Read the JSON object in the file ``path``; see :func:`parse_object`.

    Raises
    ------
    FormatError
        The file cannot be read, is a git-lfs pointer, or :func:`parse_object` refuses its text.
    """
    refuse_pointer(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    return parse_object(text, str(path), unique=unique)
