"""The survey's results on disk: every matrix at every width, one file a block."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.options import Curves, Level
from lrc.base.atomic import atomic_write_json
from lrc.formats.safetensors.file import SafetensorsFile, write_safetensors
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import matrix_record, matrix_tensors, read_matrix

F32 = NDArray[np.float32]


class LevelStore:
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
        return self._path(block, "json").is_file()

    def write(
        self,
        block: int,
        levels: Mapping[str, Mapping[int, PackedMatrix]],
        curves: Mapping[str, Curves],
        vectors: Mapping[str, Mapping[int, NDArray[np.floating]]],
    ) -> None:
        """Keep a block: by matrix name, then width, the matrix and eigenvectors (m, r)."""
        self.folder.mkdir(exist_ok=True)
        tensors: dict[str, NDArray[Any]] = {}
        record: dict[str, Any] = {}
        for name, widths in levels.items():
            for bits, matrix in widths.items():
                tensors |= matrix_tensors(f"{name}@{bits}", matrix)
                tensors[f"{name}@{bits}.vectors"] = vectors[name][bits].astype(np.float16)
            record[name] = {
                "curves": curves[name],
                "levels": {bits: matrix_record(matrix) for bits, matrix in widths.items()},
            }
        write_safetensors(self._path(block, "safetensors"), tensors)
        atomic_write_json(self._path(block, "json"), record)

    def curves(self, block: int) -> dict[str, Curves]:
        """Squared relative errors of a block's matrices, by name."""
        return {
            name: {
                int(bits): {int(rank): left for rank, left in curve.items()}
                for bits, curve in record["curves"].items()
            }
            for name, record in self._block(block)[0].items()
        }

    def matrix(self, block: int, name: str, level: Level, W: F32, share: float) -> F32:
        """The matrix ``name`` at ``level`` as a better codebook would leave it, f32 (m, n).

        The error of the lattice, less what a correction of the level's rank captures of it, is
        scaled so that its square becomes ``share`` of itself. ``W`` is the original matrix.
        """
        records, file = self._block(block)
        key = f"{name}@{level.bits}"
        packed = read_matrix(file, key, records[name]["levels"][str(level.bits)])
        error = packed.to_dense()
        np.subtract(W, error, out=error)
        if level.rank:
            U = file.float32(f"{key}.vectors")[:, : level.rank]
            error -= U @ (U.T @ error)
        error *= np.float32(share**0.5)
        return np.subtract(W, error, out=error)

    def remove(self) -> None:
        """Delete everything; the maps are let go first, as some platforms require."""
        self._open.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _block(self, block: int) -> tuple[dict[str, Any], SafetensorsFile]:
        if block not in self._open:
            records = json.loads(self._path(block, "json").read_bytes())
            self._open[block] = records, SafetensorsFile(self._path(block, "safetensors"))
        return self._open[block]

    def _path(self, block: int, ending: str) -> Path:
        return self.folder / f"levels-{block:05d}.{ending}"
