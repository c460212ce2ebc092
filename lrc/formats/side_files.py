"""The files beside the weights, as they are copied with a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

#: Folder of further chat templates; the only one whose files belong to a model.
TEMPLATES = "additional_chat_templates"


def copy_side_files(root: Path, files: Iterable[Path], folder: Path) -> None:
    """Copy ``files``, which lie below ``root``, to the same places below ``folder``."""
    for file in files:
        target = folder / file.relative_to(root)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
