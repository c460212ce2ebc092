"""The survey's results on disk: every matrix at every width, one file a block."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.options import WIDTHS, Candidate, Curves
from lrc.base.atomic import atomic_write_json
from lrc.base.own_files import read_own_json, reading
from lrc.errors import FormatError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import matrix_record, matrix_tensors, read_matrix

F32 = NDArray[np.float32]

#: A block's files, the one that says it is complete first, so that it is the first to go.
_ENDINGS = "json", "safetensors"
_DIGITS = "[0-9]" * 5


@dataclass(frozen=True)
class Use:
    """How much tokens use a matrix.

    ``part`` of them is multiplied with it: all, or those that are routed to its expert. ``mass`` is
    how much its errors count in one, on average: 1, or the expert's mean squared share.
    """

    part: float = 1.0
    mass: float = 1.0


class CandidateStore:
    """Quantized matrices by name and width in a folder, with their errors.

    A block's JSON is written after its tensors, so what it names lies complete on disk; an
    interrupted survey goes on after the last one.

    Parameters
    ----------
    folder
        Made when the first block is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[int, tuple[dict[str, Any], SafetensorsFile]] = {}

    def has(self, block: int) -> bool:
        """Whether ``block`` was surveyed."""
        return all(self._path(block, ending).is_file() for ending in _ENDINGS)

    def write(
        self,
        block: int,
        candidates: Mapping[str, Mapping[int, PackedMatrix]],
        curves: Mapping[str, Curves],
        vectors: Mapping[str, Mapping[int, NDArray[np.floating]]],
        uses: Mapping[str, Use],
    ) -> None:
        """Keep a block: by matrix name, then width, the matrix and eigenvectors (m, r).

        ``uses``: see :meth:`uses`.
        """
        self.folder.mkdir(exist_ok=True)
        tensors: dict[str, NDArray[Any]] = {}
        record: dict[str, Any] = {}
        for name, widths in candidates.items():
            for bits, matrix in widths.items():
                tensors |= matrix_tensors(f"{name}@{bits}", matrix)
                tensors[f"{name}@{bits}.vectors"] = vectors[name][bits].astype(np.float16)
            record[name] = {
                "curves": curves[name],
                "use": dataclasses.asdict(uses[name]),
                "levels": {bits: matrix_record(matrix) for bits, matrix in widths.items()},
            }
        self._path(block, "json").unlink(missing_ok=True)
        write_safetensors(self._path(block, "safetensors"), tensors)
        atomic_write_json(self._path(block, "json"), record)

    def curves(self, block: int, ranks: Mapping[str, Collection[int]]) -> dict[str, Curves]:
        """Squared relative errors of a block's matrices, by name.

        Raises
        ------
        FormatError
            They are not those of the matrices that ``ranks`` names, with the ranks of each.
        """
        records, _ = self._block(block)
        with self._reading(block):
            found: dict[str, Curves] = {
                name: {
                    int(bits): {int(rank): float(left) for rank, left in curve.items()}
                    for bits, curve in record["curves"].items()
                }
                for name, record in records.items()
            }
            fits = found.keys() == ranks.keys() and all(
                curves.keys() == set(WIDTHS) and all(c.keys() == set(own) for c in curves.values())
                for curves, own in ((found[name], own) for name, own in ranks.items())
            )
            if not fits:
                raise FormatError("it lacks a matrix, width or rank, or has one too many")
            return found

    def uses(self, block: int) -> dict[str, Use]:
        """How much tokens use each matrix, by name.

        Raises
        ------
        FormatError
            It is not said of one of them.
        """
        records, _ = self._block(block)
        with self._reading(block):
            said = {name: record["use"] for name, record in records.items()}
            return {n: Use(float(use["part"]), float(use["mass"])) for n, use in said.items()}

    def matrix(self, block: int, name: str, candidate: Candidate, W: F32, ratio: float) -> F32:
        """The matrix ``name`` at ``candidate`` as a better codebook would leave it, f32 (m, n).

        The error of the lattice, less what a correction of the candidate's rank captures of it, is
        scaled so that its square becomes ``ratio`` of itself. ``W`` is the original matrix.
        """
        records, file = self._block(block)
        key = f"{name}@{candidate.bits}"
        with self._reading(block):
            packed = read_matrix(file, key, records[name]["levels"][str(candidate.bits)])
            if packed.shape != W.shape:
                raise FormatError(f"{key} has the shape {packed.shape}, not {W.shape}")
            U = file.float32(f"{key}.vectors")[:, : candidate.rank] if candidate.rank else None
        error = packed.to_dense()
        np.subtract(W, error, out=error)
        if U is not None:
            error -= U @ (U.T @ error)
        error *= np.float32(ratio**0.5)
        return np.subtract(W, error, out=error)

    def count(self) -> int:
        """How many blocks were surveyed."""
        return sum(
            self.has(int(path.stem[-5:])) for path in self.folder.glob(f"levels-{_DIGITS}.json")
        )

    def remove(self) -> None:
        """Delete what was written; the maps are let go first, as some platforms require."""
        self._open.clear()
        for ending in _ENDINGS:
            for path in self.folder.glob(f"levels-{_DIGITS}.{ending}*"):
                path.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _block(self, block: int) -> tuple[dict[str, Any], SafetensorsFile]:
        if block not in self._open:
            with self._reading(block):
                records = read_own_json(self._path(block, "json"))
                self._open[block] = records, SafetensorsFile(self._path(block, "safetensors"))
        return self._open[block]

    def _reading(self, block: int) -> contextlib.AbstractContextManager[None]:
        return reading(self._path(block, "json"))

    def _path(self, block: int, ending: str) -> Path:
        return self.folder / f"levels-{block:05d}.{ending}"
