"""What computes a stored model when text is generated with it, in words."""

from __future__ import annotations

from lrc.errors import UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models import load_model
from lrc.parts.packed import PackedCheckpoint


def runs_on(source: Checkpoint | PackedCheckpoint) -> str:
    """Say what computes ``source``: compiled loops, NumPy blocks and why, or nothing here.

    Dense weights are not read for it: no compiled loop takes them.
    """
    if isinstance(source, Checkpoint):
        return "NumPy blocks (weights that are not packed)"
    try:
        return load_model(source).engines().runs_on
    except UnsupportedModelError as error:
        return f"nothing here ({error})"
