"""What a model that hears is beside a `Model`: it listens to features before it writes."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.models.source import Array
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.memory import MemoryCache


@runtime_checkable
class SpeechModel(Model, Protocol):
    """An encoder of features, and a decoder whose tokens see what it has made of them."""

    @property
    def features(self) -> tuple[int, int]:
        """Shape of a window's features: bands, frames."""
        ...

    def listen(self, features: Array, max_length: int, execution: Execution = PLAIN) -> MemoryCache:
        """Make a cache for texts of up to ``max_length`` tokens about features (B, bands, frames).

        Raises
        ------
        SpecError
            The features have another shape, or the texts exceed the model's context.
        """
        ...


def hears(model: Model) -> bool:
    """Whether a model needs audio beside text."""
    return isinstance(model, SpeechModel)


def needs_audio() -> SpecError:
    """The error where a model that hears is used like one that only reads."""
    return SpecError(
        "this model listens before it writes: give it audio (lrc transcribe; for lrc compress and "
        'lrc eval a .jsonl file with {"audio": PATH, "text": "..."} a line)'
    )
