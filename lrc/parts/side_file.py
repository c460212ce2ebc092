"""A file beside the weights of a compressed model, changed together with its checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lrc.base.atomic import atomic_write_bytes
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.parts.manifest import CHECKSUMS, read_manifest, write_manifest


def is_as_written(folder: Path, name: str, content: bytes) -> bool:
    """Whether a file is what its checksum in the manifest says, or is not there.

    Or has the ``content`` that it is to have: who wrote it died before its checksum was written.
    """
    path = folder / name
    if not path.exists():
        return True
    stored = read_manifest(folder).get(CHECKSUMS, {}).get(name)
    return file_digest(path).hex() in (stored, hashlib.sha256(content).hexdigest())


def replace_side_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file, and its checksum into a manifest that has checksums.

    Raises
    ------
    OutputError
        One of the two cannot be written.
    """
    atomic_write_bytes(folder / name, content)
    manifest = read_manifest(folder)
    if CHECKSUMS in manifest:
        digits = file_digest(folder / name).hex()
        write_manifest(folder, manifest | {CHECKSUMS: {**manifest[CHECKSUMS], name: digits}})
