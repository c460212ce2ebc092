"""Whether a compressed model's directory is what was written, and every value in its range."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lrc.base.progress import SILENT, Progress
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.formats.side_files import contained
from lrc.parts.fields import MANIFEST
from lrc.parts.manifest import CHECKSUMS, FIELDS, own_checksum, read_manifest
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint


def differing_files(folder: Path) -> Iterator[str]:
    """Name files that are not what the manifest says, the manifest itself among them.

    Where it has no checksums (older files lack them) there is nothing to say but of its fields.

    Raises
    ------
    FormatError
        The manifest cannot be read.
    """
    manifest = read_manifest(folder)
    unknown = sorted(set(manifest) - FIELDS)
    if unknown:
        yield f"{MANIFEST} has fields that no version writes: {', '.join(unknown)}"
    if CHECKSUMS not in manifest:
        return
    checksums = manifest[CHECKSUMS]
    for name in sorted({MANIFEST, *manifest["files"]} - set(checksums)):
        yield f"{MANIFEST} has no checksum of {name}"
    for name, stored in checksums.items():
        try:
            path = contained(folder, name)
            if name == MANIFEST:
                found = own_checksum(path.read_bytes(), stored)
            else:
                found = file_digest(path).hex()
        except FormatError as error:
            yield str(error)
            continue
        if found != stored:
            yield f"{name} is not what was written: its SHA-256 is {found}, on record is {stored}"


def unlisted_files(source: PackedCheckpoint) -> list[str]:
    """Files beside the weights that a reader may take for the model's and no checksum names."""
    listed = source.report.get(CHECKSUMS, {})
    found = (path.relative_to(source.path).as_posix() for path in source.other_files())
    return [name for name in found if name not in listed]


def value_faults(source: PackedCheckpoint, progress: Progress = SILENT) -> Iterator[str]:
    """Name tensors with values that no writer writes: out of range, or not finite.

    Every matrix is decoded, some thousand rows at a time.
    """
    names = source.names()
    with progress.bar("values", len(names), "tensor") as advance:
        for name in names:
            try:
                stored = source.linear(name)
            except FormatError as error:
                yield str(error)
            else:
                if isinstance(stored, PackedMatrix):
                    yield from (f"{name}: {fault}" for fault in stored.faults())
                elif not np.isfinite(stored).all():
                    yield f"{name} is not finite"
            advance()
