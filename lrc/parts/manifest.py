"""``lrc.json``, the manifest of a compressed model: every field that decoding needs is checked.

The fields are described in :mod:`lrc.parts.packed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lrc.base.strict_json import read_object
from lrc.errors import FormatError

FORMAT = "lrc"
FORMAT_VERSION = 1
MANIFEST = "lrc.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check ``folder / lrc.json``.

    Raises
    ------
    FormatError
        If it is missing, malformed, of another format or version, or lacks a field.
    """
    path = folder / MANIFEST
    manifest = read_object(path)
    if manifest.get("format") != FORMAT:
        raise FormatError(f"{path} does not describe a model compressed by lrc")
    version = manifest.get("version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {version!r}; this library reads version "
            f"{FORMAT_VERSION}: upgrade lrc or compress the model again"
        )
    missing = [key for key in ("files", "matrices", "source") if key not in manifest]
    if missing:
        raise FormatError(f"{path} lacks {', '.join(missing)}")
    _check(path, "files", _is_names(manifest["files"]), "a list of file names, none twice")
    _check(path, "matrices", isinstance(manifest["matrices"], dict), "an object")
    source = manifest["source"]
    counted = isinstance(source, dict) and _is_natural(source.get("parameters"))
    _check(path, "source", counted, "an object with a number of parameters")
    for name, record in manifest["matrices"].items():
        check_record(name, record)
    return manifest


def check_record(name: str, record: Any) -> None:
    """Refuse a matrix's record that lacks a field or holds one of the wrong type.

    Raises
    ------
    FormatError
        Naming matrix and field.
    """
    if not isinstance(record, Mapping):
        raise FormatError(f"{MANIFEST}: the record of {name} is not an object")
    for field, (fits, expected) in _FIELDS.items():
        if field not in record:
            raise FormatError(f"{MANIFEST}: the record of {name} lacks {field}")
        if not fits(record[field]):
            raise FormatError(
                f"{MANIFEST}: the record of {name} has {field} {record[field]!r}, not {expected}"
            )


def _check(path: Path, field: str, fits: bool, expected: str) -> None:
    if not fits:
        raise FormatError(f"{path}: {field} must be {expected}")


def _is_natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_natural(v) and v for v in value)


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(v, str) for v in value)
        and len(set(value)) == len(value)
    )


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "shape": (_is_shape, "two positive integers"),
    "codebook": (_is_text, "a string"),
    "bits": (_is_natural, "an integer >= 0"),
    "group_size": (_is_natural, "an integer >= 0"),
    "rotation": (_is_text, "a string"),
    "rank": (_is_natural, "an integer >= 0"),
    "factor_bits": (_is_natural, "an integer >= 0"),
    "bits_per_weight": (_is_number, "a number >= 0"),
}
