"""``lrc.json``, the manifest of a compressed model.

The fields are described in :mod:`lrc.parts.packed`. Records of matrices are not looked at here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrc.base.atomic import atomic_write_bytes, json_bytes
from lrc.base.strict_json import read_object
from lrc.errors import FormatError
from lrc.parts.fields import MANIFEST, NATURAL

FORMAT = "lrc"
#: What is written; versions from the first on are read.
FORMAT_VERSION = 2
#: The field that holds the SHA-256 of every file, in hex, by its path in the directory.
CHECKSUMS = "sha256"
#: The field that says what decided how sums were rounded.
ARITHMETIC = "arithmetic"
#: Every field that a manifest may have.
FIELDS = frozenset({
    "format", "version", "library", "spec", "allocation", "source", "calibration", "files",
    "matrices", "warnings", "tuned", "self_test", ARITHMETIC,
    CHECKSUMS,
})  # fmt: skip
_HEX = re.compile("[0-9a-f]{64}")
#: In the place of the manifest's own checksum while that is taken.
_BLANK = "0" * 64


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check ``folder / lrc.json``.

    Raises
    ------
    FormatError
        If it is missing, malformed, of another format or version, or lacks a field.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FormatError(f"{folder} has no {MANIFEST}; give a directory that lrc compress made")
    manifest = read_object(path)
    if manifest.get("format") != FORMAT:
        raise FormatError(f"{path} does not describe a model compressed by lrc")
    version = manifest.get("version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {version!r}; this library reads versions 1 to "
            f"{FORMAT_VERSION}: upgrade lrc or compress the model again"
        )
    missing = [key for key in ("files", "matrices", "source") if key not in manifest]
    if missing:
        raise FormatError(f"{path} lacks {', '.join(missing)}")
    _check(path, "files", _is_names(manifest["files"]), "a list of file names, none twice")
    _check(path, "matrices", isinstance(manifest["matrices"], dict), "an object")
    source = manifest["source"]
    counted = isinstance(source, dict) and NATURAL[0](source.get("parameters"))
    _check(path, "source", counted, "an object with a number of parameters")
    checksums = manifest.get(CHECKSUMS, {})
    _check(path, CHECKSUMS, _are_checksums(checksums), "an object of 64 hexadecimal digits a file")
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``folder / lrc.json`` in one step; one with checksums gets its own as well.

    That one is taken of the file with 64 zeros in its place.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    content = json_bytes(_sealed(manifest, _BLANK))
    if CHECKSUMS in manifest:
        content = json_bytes(_sealed(manifest, hashlib.sha256(content).hexdigest()))
    atomic_write_bytes(folder / MANIFEST, content)


def own_checksum(content: bytes, stored: str) -> str:
    """The checksum of a manifest's bytes, of which ``stored`` are 64 digits that say so."""
    return hashlib.sha256(content.replace(stored.encode(), _BLANK.encode())).hexdigest()


def _sealed(manifest: Mapping[str, Any], own: str) -> dict[str, Any]:
    if CHECKSUMS not in manifest:
        return dict(manifest)
    return {**manifest, CHECKSUMS: {**manifest[CHECKSUMS], MANIFEST: own}}


def _check(path: Path, field: str, fits: bool, expected: str) -> None:
    if not fits:
        raise FormatError(f"{path}: {field} must be {expected}")


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(v, str) for v in value)
        and len(set(value)) == len(value)
    )


def _are_checksums(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(digits, str) and _HEX.fullmatch(digits) for digits in value.values()
    )
