"""Opening a model directory, dense or compressed, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.models.llama import LlamaModel
from lrc.tokens import Tokenizer

if TYPE_CHECKING:
    from lrc.formats.checkpoint import Checkpoint
    from lrc.formats.packed import PackedCheckpoint


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer and where both came from."""

    model: LlamaModel
    tokenizer: Tokenizer
    source: Checkpoint | PackedCheckpoint
    path: Path


def load(path: str | Path) -> LoadedModel:
    """Open a dense or compressed model directory.

    The configuration, the tokenizer and the weights' headers are read and checked now, the
    weights themselves when they are first needed; ``model.notes`` says what is not read.

    Raises
    ------
    FormatError
        When a file is missing or malformed, or a tensor is not what the configuration implies.
    UnsupportedModelError
        When the configuration or a tensor asks for something that is not computed here.

    Examples
    --------
    >>> import lrc
    >>> loaded = lrc.load("SmolLM2-135M")  # doctest: +SKIP
    >>> loaded.tokenizer.decode([4427])  # doctest: +SKIP
    """
    from lrc.models.opened import open_model

    model, source = open_model(path)
    return LoadedModel(model, Tokenizer.open(source.path), source, source.path)
