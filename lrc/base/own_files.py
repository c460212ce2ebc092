"""Files that one run writes for the next: whole, as they are replaced in one step, or damaged."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrc.base.strict_json import parse_object
from lrc.errors import FormatError

_DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, OverflowError)


@contextlib.contextmanager
def reading(path: Path, remedy: str = "remove it and run again: it is made anew") -> Iterator[None]:
    """Turn whatever reading a damaged file raises into one line that says what to do.

    Raises
    ------
    FormatError
        Naming ``path`` and the ``remedy``.
    """
    try:
        yield
    except (*_DAMAGE, zipfile.BadZipFile) as error:
        raise FormatError(f"{path} is damaged ({error}); {remedy}") from error


def read_own_json(path: Path) -> dict[str, Any]:
    """The object in ``path``, for use in :func:`reading`."""
    return parse_object(path.read_bytes(), "its text")
