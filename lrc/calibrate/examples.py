"""What runs through a model in calibration: windows of tokens, or utterances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.base.fingerprint import fingerprint
from lrc.calibrate.streams import Inputs, window_chunks
from lrc.run.utterances import Heard
from lrc.spec import AllocationSpec


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Pieces that models are compared on, each by itself.

    Attributes
    ----------
    inputs : Inputs
        For each stack, an array (1, ...) a piece.
    first : tuple of int
        Of each piece, the first token that is scored; the one before predicts it.
    positions : int
        Tokens of all pieces, or positions of audio, whichever are more.
    """

    inputs: Inputs
    first: tuple[int, ...]
    positions: int


class Examples(ABC):
    """Examples of what a model reads or hears.

    Attributes
    ----------
    inputs : Inputs
        All of them.
    tokens : int
        Of their texts.
    """

    inputs: Inputs
    tokens: int

    @abstractmethod
    def identity(self) -> str:
        """A digest: other examples have another."""

    @abstractmethod
    def split(self, allocation: AllocationSpec) -> tuple[Inputs, HeldOut]:
        """Examples for second moments, and others, from the end, to compare models on.

        A single one serves both, which is the one case in which they overlap.
        """


class TextExamples(Examples):
    """Token windows (N, T)."""

    def __init__(self, windows: NDArray[np.integer]) -> None:
        self._windows = windows
        self.inputs, self.tokens = (window_chunks(windows),), int(windows.size)

    def identity(self) -> str:
        """Of shape and tokens."""
        tokens = np.ascontiguousarray(self._windows, np.int64)
        return fingerprint(str(tokens.shape), tokens.tobytes())

    def split(self, allocation: AllocationSpec) -> tuple[Inputs, HeldOut]:
        """The second half of each window that is held out is scored."""
        kept, last = _split(len(self._windows), allocation)
        heldout = self._windows[last, : allocation.heldout_tokens]
        pieces = [window[None] for window in heldout]
        middle = heldout.shape[1] // 2
        found = HeldOut((pieces,), (middle,) * len(pieces), int(heldout.size))
        return (window_chunks(self._windows[kept]),), found


class SpeechExamples(Examples):
    """Utterances, each of a length of its own."""

    def __init__(self, heard: Sequence[Heard]) -> None:
        self._heard = heard
        self.inputs = _stacked(heard)
        self.tokens = sum(one.ids.size for one in heard)

    def identity(self) -> str:
        """Of features and tokens."""
        arrays = [array for of in self.inputs for array in of]
        return fingerprint(*(part for a in arrays for part in (str(a.shape), a.tobytes())))

    def split(self, allocation: AllocationSpec) -> tuple[Inputs, HeldOut]:
        """All tokens of the texts that are held out are scored, and those that end them."""
        kept, last = _split(len(self._heard), allocation)
        pieces = self._heard[last]
        positions = sum(max(one.features.shape[-1] // 2, one.ids.size) for one in pieces)
        found = HeldOut(_stacked(pieces), tuple(one.first for one in pieces), positions)
        return _stacked(self._heard[kept]), found


def _split(count: int, allocation: AllocationSpec) -> tuple[slice, slice]:
    """Which of so many examples are for moments, and which are held out."""
    heldout = min(allocation.heldout_windows, max(count // 2, 1))
    kept = min(max(count - heldout, 1), allocation.survey_windows)
    return slice(0, kept), slice(count - heldout, count)


def _stacked(heard: Sequence[Heard]) -> Inputs:
    """Features for the first stack, tokens for the second."""
    return [one.features for one in heard], [one.ids for one in heard]
