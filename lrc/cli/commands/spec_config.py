"""The file of ``--config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrc.base.strict_json import read_object
from lrc.errors import FormatError, SpecError
from lrc.spec import CompressSpec


def read_config(path: Path, base: CompressSpec | None = None) -> CompressSpec:
    """Read a :meth:`CompressSpec.to_dict` JSON file; anything left out is as in ``base``.

    Raises
    ------
    SpecError
        The file cannot be read, is no JSON object, or holds an unknown name or a value of the
        wrong type.
    """
    try:
        values = read_object(path)
    except FormatError as error:
        raise SpecError(str(error)) from None
    try:
        return CompressSpec.from_dict(_merged((base or CompressSpec()).to_dict(), values))
    except TypeError as error:
        raise SpecError(f"{path} holds a value of the wrong type: {error}") from None


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``, dictionaries merged key by key."""
    both = {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in over.items()
    }
    return {**base, **both}
