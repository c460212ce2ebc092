"""Model directories, opened and checked against what their family reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models import load_model
from lrc.models.base import Model
from lrc.parts.packed import PackedCheckpoint, open_model_files


def open_model(path: str | Path) -> tuple[Model, Checkpoint | PackedCheckpoint]:
    """The model in a directory, dense or compressed, and the files that it reads from.

    The files are as the model accepted them: their names are those that it reads.

    Raises
    ------
    FormatError
        A file is missing or malformed, or is not what the configuration implies.
    UnsupportedModelError
        The configuration, or a tensor, asks for something that is not computed here.
    """
    source = open_model_files(path)
    model = load_model(source)
    return model, model.source if isinstance(model.source, Checkpoint) else source


def open_for_inspection(path: str | Path) -> Checkpoint | PackedCheckpoint:
    """Files of a model under the names and in the shapes that its family reads.

    Where no family here reads them, as they are stored.

    Raises
    ------
    FormatError
        The directory is neither dense nor compressed, or a file in it is malformed.
    """
    source = open_model_files(path)
    with contextlib.suppress(FormatError, UnsupportedModelError):
        if isinstance(source, Checkpoint) and isinstance(
            read := load_model(source).source, Checkpoint
        ):
            return read
    return source


def open_original(path: str | Path) -> tuple[Model, Checkpoint]:
    """The same of a dense directory.

    Raises
    ------
    FormatError
        As :func:`open_model`, or the model is compressed already.
    UnsupportedModelError
        As :func:`open_model`.
    """
    model, source = open_model(path)
    if not isinstance(source, Checkpoint):
        raise FormatError(f"{path} is compressed already; give the original model")
    return model, source
