"""The files of a model's directory, and those beside the weights, as they are copied with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from lrc.errors import FormatError
from lrc.formats import diagnose
from lrc.formats.hub_cache import blobs_of

#: Folder of further chat templates; the only one whose files belong to a model.
TEMPLATES = "additional_chat_templates"
_WEIGHTS = (*diagnose.PICKLES, ".safetensors", ".gguf", ".h5", ".msgpack", ".onnx", ".npz", ".ot")
#: Bytes of the longest name of a file.
_LONGEST = 255
#: Bytes that are copied together.
_PIECE = 1 << 20


def copy_side_files(root: Path, files: Iterable[Path], folder: Path) -> dict[str, str]:
    """Copy ``files``, which lie below ``root``, to the same places below ``folder``.

    Returns
    -------
    dict
        The SHA-256 of what was read, in hex, by the place.
    """
    checksums = {}
    for file in files:
        target = folder / file.relative_to(root)
        target.parent.mkdir(exist_ok=True)
        with file.open("rb") as source, target.open("wb") as copy:
            checksum = hashlib.sha256()
            while content := source.read(_PIECE):
                checksum.update(content)
                copy.write(content)
        checksums[file.relative_to(root).as_posix()] = checksum.hexdigest()
    return checksums


def contained(root: Path, name: str) -> Path:
    """Path of the file ``name`` of a directory, which must not lead out of it.

    Links are followed and must end inside ``root``. The one exception is the layout of the
    Hugging Face cache, where all that is below ``snapshots/REVISION`` may link into the ``blobs``
    of its repository.

    Raises
    ------
    FormatError
        ``name`` is absolute, has a ``..`` part or ends elsewhere through a link.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or not parts[0] or ":" in name or ".." in parts or not is_file_name(name):
        raise FormatError(f"{root} names the file {name!r:.80}, which is not inside the directory")
    home, target = root.resolve(), (root / name).resolve()
    blobs = blobs_of(home)
    inside = target.is_relative_to(home) or (blobs is not None and target.is_relative_to(blobs))
    if not inside:
        raise FormatError(f"{root / name} is a link that leads out of the directory; copy the file")
    return root / name


def is_file_name(name: str) -> bool:
    """Whether a file system can have the name: no part too long, no zero, no half a character."""
    try:
        coded = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return b"\0" not in coded and max(map(len, coded.split(b"/"))) <= _LONGEST < 4096 - len(coded)


def other_files(root: Path) -> tuple[Path, ...]:
    """Visible files of ``root`` that hold neither weights nor an index; chat templates, too."""
    return tuple(
        contained(root, path.relative_to(root).as_posix())
        for path in (*sorted(root.iterdir()), *sorted((root / TEMPLATES).glob("*.jinja")))
        if path.is_file()
        and not path.name.startswith(".")
        and path.suffix not in _WEIGHTS
        and not path.name.endswith((".safetensors.index.json", ".bin.index.json"))
    )
