"""One window through a model that was just written, and through its original."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT
from lrc.base.threads import chunks
from lrc.errors import NumericalError
from lrc.measure.divergence import Prediction
from lrc.models import load_model
from lrc.models.base import Model
from lrc.models.sweep import sweep
from lrc.nn.linear import Array
from lrc.parts.packed import PackedCheckpoint

#: Tokens of the window that is looked at.
TOKENS = 128
#: Positions whose logits exist at the same time, for each model.
ROWS = 64
#: Nats above both its original and blind guessing from which a model is broken.
_BROKEN = 3.0


@dataclass(frozen=True)
class SelfTest:
    """What a model makes of one window, in nats a token, beside its original.

    ``loss`` and ``original_loss`` are -log p of the window's tokens. Each model's greedy choice is
    the token that it finds likeliest at a position: ``greedy_loss`` is -log p, by the original, of
    the compressed model's choices, ``original_greedy_loss`` of its own, and ``greedy_agreement``
    the share of positions where the two are the same. ``chance`` is the loss of blind guessing.
    """

    tokens: int
    loss: float
    original_loss: float
    greedy_loss: float
    original_greedy_loss: float
    greedy_agreement: float
    chance: float

    @property
    def is_broken(self) -> bool:
        """Whether it predicts nothing: not finite, or far worse than guessing and its original."""
        return not self.loss <= max(self.original_loss, self.chance) + _BROKEN

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know."""
        if self.original_loss < self.chance < self.loss:
            return (
                f"on its first window the compressed model does worse than guessing: a loss of "
                f"{self.loss:.2f} nats a token, of the original {self.original_loss:.2f}",
            )
        return ()


def self_test(
    folder: Path,
    manifest: Mapping[str, Any],
    original: Model,
    inputs: Sequence[Sequence[NDArray[Any]]],
    threads: int,
) -> SelfTest:
    """Open the files in ``folder`` by a manifest that need not be written, and run one window.

    Parameters
    ----------
    folder : Path
    manifest : mapping
        Not modified.
    original : Model
    inputs : sequence of sequences
        For each stack of the model, arrays (B, ...) of which the first row of the first is taken;
        those of the last stack are tokens.
    threads : int
        Never changes the result.

    Raises
    ------
    FormatError
        What was written cannot be opened.
    NumericalError
        The model is broken.

    Notes
    -----
    One forward pass of each model over `TOKENS` tokens, one block in memory at a time.
    """
    part = tuple(of[0][:1] for of in inputs)
    ids = part[-1][:, :TOKENS]
    part = (*part[:-1], ids)
    if ids.shape[1] < 2:
        ids = np.concatenate([ids, ids], axis=1)
        part = (*part[:-1], ids)
    packed = PackedCheckpoint.described(folder, manifest)
    model = load_model(packed)
    streams = [_stream(one, part, threads) for one in (model, original)]
    packed.release()
    found = _compared((model, original), streams, ids[0, 1:])
    if found.is_broken:
        raise NumericalError(
            f"the compressed model is broken: on its first window it has a loss of {found.loss:.2f}"
            f" nats a token, the original {found.original_loss:.2f}, and guessing "
            f"{found.chance:.2f}; nothing is put at the output: give it more bits, another "
            "codebook, or other text"
        )
    return found


def _stream(model: Model, part: tuple[NDArray[Any], ...], threads: int) -> Array:
    """Residual stream (T - 1, hidden) before the head, of a window's positions but the last."""
    (h,) = sweep(model.as_stored(), [part], threads, SILENT)
    return np.ascontiguousarray(h[0, :-1])


def _compared(
    models: tuple[Model, Model], streams: Sequence[Array], targets: NDArray[np.integer]
) -> SelfTest:
    sums = np.zeros(5)
    vocabulary = 1
    with np.errstate(all="ignore"):  # of a broken model
        for rows in chunks(len(targets), ROWS):
            logits = [model.head(h[rows]) for model, h in zip(models, streams, strict=True)]
            vocabulary = logits[0].shape[1]
            own, other = map(Prediction, logits)
            sums += (
                own.loss(targets[rows]).sum(),
                other.loss(targets[rows]).sum(),
                other.loss(own.top).sum(),
                other.loss(other.top).sum(),
                float(np.count_nonzero(own.top == other.top)),
            )
    loss, original, greedy, original_greedy, agreement = (float(v) for v in sums / len(targets))
    return SelfTest(
        tokens=len(targets),
        loss=loss,
        original_loss=original,
        greedy_loss=greedy,
        original_greedy_loss=original_greedy,
        greedy_agreement=agreement,
        chance=math.log(vocabulary),
    )
