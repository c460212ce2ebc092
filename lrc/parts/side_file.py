"""A file beside the weights of a compressed model, changed together with its checksum."""

from __future__ import annotations

from pathlib import Path

from lrc.base.atomic import atomic_write_bytes
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.parts.manifest import CHECKSUMS, read_manifest, write_manifest


def is_as_written(folder: Path, name: str) -> bool:
    """Whether a file is what its checksum in the manifest says, or is not there."""
    path = folder / name
    stored = read_manifest(folder).get(CHECKSUMS, {}).get(name)
    return not path.exists() or (stored is not None and file_digest(path).hex() == stored)


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
