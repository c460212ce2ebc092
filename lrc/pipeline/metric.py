"""The metric of a model's end: gradient statistics of every matrix, on disk while it is compressed.

Files lie beside what an unfinished run has made: each block's are read when it is its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_write_json
from lrc.base.own_files import read_own_json, reading
from lrc.base.progress import Progress
from lrc.calibrate.streams import Inputs
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.models.base import Model
from lrc.models.sweep import Part
from lrc.refine.layer_gradients import (
    LayerGradients,
    LayerPlace,
    OfBlock,
    batches_of,
    layer_gradients,
)
from lrc.spec.metric import MetricSpec

F32 = NDArray[np.float32]
_DONE = "unfinished-gradients.json"
_FILE = "unfinished-gradients-{:05d}.safetensors"


@dataclass(frozen=True)
class GradientStore:
    """Statistics of the gradients at every matrix of a model, in a folder.

    ``pieces`` are the places of the windows that gradients were taken of: chunk, and row in it.
    """

    folder: Path
    spec: MetricSpec
    pieces: Sequence[tuple[int, int]]

    def token_weights(
        self, block: int, at: LayerPlace, chunks: Sequence[NDArray[Any]]
    ) -> list[F32] | None:
        """What each token of the hidden states ``chunks`` (b, T, d) counts in a second moment.

        Of mean 1 over the windows with gradients, and 1 in others; None: all alike.
        """
        energies = self._read(block, at, "energies")
        if energies is None or self.spec.power == 0:
            return None
        weights = energies.astype(np.float64) ** self.spec.power
        weights /= weights.mean() if weights.any() else 1.0
        found = [np.ones(of.shape[:2], np.float32) for of in chunks]
        rows = [found[chunk][row] for chunk, row in self.pieces]
        if sum(map(len, rows)) != len(weights):  # an expert's: rows of the tokens routed to it
            return None
        for row, own in zip(
            rows, np.split(weights, np.cumsum([*map(len, rows)])[:-1]), strict=True
        ):
            row[:] = own
        return [of.reshape(-1) for of in found]

    def outputs(self, block: int, at: LayerPlace) -> tuple[F32, float] | None:
        """The moment (m, m) of the gradients at a matrix's outputs, and its effective rows."""
        moment = self._read(block, at, "moment")
        energies = self._read(block, at, "energies")
        if moment is None or energies is None or not np.trace(moment) > 0:
            return None
        weights = energies.astype(np.float64) ** self.spec.power
        return moment, float(weights.sum() ** 2 / np.square(weights).sum())

    def importances(self, block: int, at: LayerPlace) -> tuple[F32, F32] | None:
        """Fisher information of a matrix by its columns (n,), and by its rows (m,)."""
        columns, rows = self._read(block, at, "columns"), self._read(block, at, "rows")
        return None if columns is None or rows is None else (columns, rows)

    def _read(self, block: int, at: LayerPlace, what: str) -> F32 | None:
        path = self.folder / _FILE.format(block)
        if not path.is_file():
            return None
        with reading(path):
            file, name = SafetensorsFile(path), _name(at, what)
            return file.float32(name).copy() if name in file.names else None


def gradient_store(
    folder: Path,
    model: Model,
    inputs: Inputs,
    spec: MetricSpec,
    *,
    weights: bool = False,
    seed: int,
    threads: int,
    progress: Progress,
) -> GradientStore:
    """Take gradients on a part of the calibration, or find those of an unfinished run.

    ``weights``: those of the weights, too, window by window.
    """
    pieces = _pieces(inputs, spec.tokens)
    if (folder / _DONE).is_file():
        with reading(folder / _DONE):
            read_own_json(folder / _DONE)
        return GradientStore(folder, spec, pieces)
    forget_gradients(folder)
    parts: list[Part] = [tuple(of[chunk][row : row + 1] for of in inputs) for chunk, row in pieces]

    def keep(block: int, layers: OfBlock) -> None:
        _add(folder / _FILE.format(block), layers)

    for batch in batches_of(model, parts):
        layer_gradients(
            model, parts[batch], keep, power=spec.power, outputs=spec.outputs, weights=weights,
            seed=seed, first=batch.start, threads=threads, progress=progress,
        )  # fmt: skip
    model.release()
    atomic_write_json(folder / _DONE, {"windows": len(pieces)})
    return GradientStore(folder, spec, pieces)


def forget_gradients(folder: Path) -> None:
    """Remove what is kept in ``folder``."""
    for path in (folder / _DONE, *folder.glob(_FILE.replace("{:05d}", "*"))):
        path.unlink(missing_ok=True)


def _pieces(inputs: Inputs, tokens: int) -> list[tuple[int, int]]:
    """Windows of about so many tokens together, evenly among all."""
    last = inputs[-1]
    every = [(chunk, row) for chunk, of in enumerate(last) for row in range(len(of))]
    length = sum(of.size for of in last) / len(every)
    count = min(max(round(tokens / length), 1), len(every))
    return [every[(2 * i + 1) * len(every) // (2 * count)] for i in range(count)]


def _add(path: Path, layers: OfBlock) -> None:
    """Write statistics of a block, with those of other batches that are there already."""
    there = SafetensorsFile(path) if path.is_file() else None
    tensors = {} if there is None else {name: there.float32(name).copy() for name in there.names}
    for at, of in sorted(layers.items()):
        for what, new in _statistics(of).items():
            name = _name(at, what)
            if what == "energies" and name in tensors:
                tensors[name] = np.concatenate((tensors[name], new))
            else:
                tensors[name] = tensors.get(name, np.float32(0)) + new.astype(np.float32)
    write_safetensors(path, tensors, {})


def _statistics(of: LayerGradients) -> dict[str, NDArray[np.floating]]:
    """What there is of a layer, by name."""
    found = {name: getattr(of, name) for name in ("moment", "columns", "rows")}
    if of.energies:
        found["energies"] = np.concatenate(of.energies)
    return {name: array for name, array in found.items() if array is not None}


def _name(at: LayerPlace, what: str) -> str:
    return f"{at.site}.{at.layer}.{what}"
