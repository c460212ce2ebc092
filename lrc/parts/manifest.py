"""``lrc.json``, the manifest of a compressed model.

The fields are described in :mod:`lrc.parts.packed`. Records of matrices are not looked at here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrc.base.strict_json import read_object
from lrc.errors import FormatError
from lrc.parts.fields import MANIFEST, NATURAL

FORMAT = "lrc"
#: What is written; versions from the first on are read.
FORMAT_VERSION = 2


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
    return manifest


def _check(path: Path, field: str, fits: bool, expected: str) -> None:
    if not fits:
        raise FormatError(f"{path}: {field} must be {expected}")


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(v, str) for v in value)
        and len(set(value)) == len(value)
    )
