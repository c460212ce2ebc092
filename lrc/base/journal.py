"""What a running compression has finished, on disk after every block, so that it can resume."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_write_bytes, atomic_write_json

_STATE = "unfinished.json"
_WINDOWS = "unfinished-windows.npy"


@dataclass
class Journal:
    """Records of the matrices, files written, and what a reader should know.

    ``calibration`` says where the tokens came from (`lrc.calibrate.corpus.CalibrationText`).
    ``seconds`` has one entry a block compressed, in this run and those it resumes.
    """

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    dropped: int = 0
    calibration: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def resume(cls, folder: Path) -> Journal:
        """The journal left in ``folder`` by an interrupted run of the same job, or a new one."""
        state = folder / _STATE
        return cls(**json.loads(state.read_bytes())) if state.is_file() else cls()

    def save(self, folder: Path) -> None:
        """Write the state; what it names lies complete on disk."""
        atomic_write_json(folder / _STATE, asdict(self))

    def finish(self, folder: Path) -> None:
        """Remove what only a resumed run needs."""
        for name in (_STATE, _WINDOWS):
            (folder / name).unlink(missing_ok=True)


def load_windows(folder: Path) -> NDArray[np.integer] | None:
    """Calibration tokens of an interrupted run, or None."""
    path = folder / _WINDOWS
    return np.load(path, allow_pickle=False) if path.is_file() else None


def save_windows(folder: Path, windows: NDArray[np.integer]) -> None:
    """Keep the calibration tokens: text that the model writes takes minutes to repeat."""
    partial = folder / f"{_WINDOWS}.tmp.npy"
    np.save(partial, windows, allow_pickle=False)
    atomic_write_bytes(folder / _WINDOWS, partial.read_bytes())
    partial.unlink()


def fingerprint(*parts: str | bytes) -> str:
    """One hash of everything that decides a job's bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
