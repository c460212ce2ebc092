"""Logits at the scored positions of token windows, in the arithmetic that a model is run in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.base.threads import ordered_map
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.base import Model
from lrc.models.sweep import sweep
from lrc.nn.engine.team import Team
from lrc.run.generate import ACTIVATIONS, Decoder

if TYPE_CHECKING:
    from lrc.nn.linear import Array

Ids = NDArray[np.integer]


class Predictor(Protocol):
    """What evaluation needs of a model."""

    def hidden(self, ids: Ids) -> Array:
        """Residual stream (B, T, d) of token ids (B, T)."""
        ...

    def head(self, h: Array) -> Array:
        """Logits (..., vocab) of the residual stream (..., d)."""
        ...


class Rows(Protocol):
    """Logits of the scored positions of some windows, one window after the other."""

    def __call__(self, part: slice) -> Array:
        """Logits (rows, vocab) of the next positions, which ``part`` counts from the first."""
        ...


def activations_of(model: Predictor, asked: str) -> str:
    """The activations a model is scored on: integers where asked for and `generate` uses them.

    Raises
    ------
    SpecError
        ``asked`` is unknown.
    """
    if asked not in ACTIVATIONS:
        raise SpecError(f"activations={asked!r} must be one of {', '.join(ACTIVATIONS)}")
    integers = (
        asked != "f32"
        and isinstance(model, Model)
        and not isinstance(model.source, Checkpoint)
        and model.engines().decode(Team(1)) is not None
    )
    return asked if integers else "f32"


def prediction_rows(
    model: Predictor,
    activations: str,
    parts: Sequence[Ids],
    first: int,
    threads: int,
    progress: Progress,
) -> Sequence[Rows]:
    """Logits one position before each target, for each part (B, T) of the windows.

    Parameters
    ----------
    model : Predictor
    activations : str
        As `activations_of` says. "f32": every window at once, one block of the model at a time.
        "i8", "i15": as `generate` runs it, the first tokens as a prompt and each further one by
        itself.
    parts : sequence of (B, T) integers
    first : int
        Position of the first target of a window, at least 1.
    threads : int
        Never changes a logit.
    progress : Progress
    """
    if activations != "f32" and isinstance(model, Model):
        model.check_length(max(windows.shape[1] for windows in parts))
        return [_Stepped(model, windows, first, activations) for windows in parts]
    if isinstance(model, Model):
        model = model.as_stored()
        streams = sweep(model, parts, threads, progress, "evaluating")
    else:
        streams = list(ordered_map(model.hidden, parts, threads))
    rows: list[Rows] = []
    for place, h in enumerate(streams):
        rows.append(_Swept(model, h[:, first - 1 : -1]))
        streams[place] = np.empty(0, np.float32)
    return rows


class _Swept:
    """Logits from residual streams h (B, T, d), which are copied."""

    def __init__(self, model: Predictor, h: Array) -> None:
        self._model = model
        self._h = np.array(h, order="C").reshape(-1, h.shape[-1])

    def __call__(self, part: slice) -> Array:
        return self._model.head(self._h[part])


class _Stepped:
    """Logits from decoding windows (B, T) one after the other."""

    def __init__(self, model: Model, windows: Ids, first: int, activations: str) -> None:
        self._logits = _decoded(model, windows, first, activations)

    def __call__(self, part: slice) -> Array:
        return np.stack(list(itertools.islice(self._logits, part.stop - part.start)))


def _decoded(model: Model, windows: Ids, first: int, activations: str) -> Iterator[Array]:
    for window in windows:
        decoder = Decoder(model, len(window) - 1, 1, activations)
        yield decoder.advance(window[:first]).copy()
        for place in range(first, len(window) - 1):
            yield decoder.advance(window[place : place + 1]).copy()
