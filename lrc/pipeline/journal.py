"""What a running compression has finished, on disk after every block, so that it can resume."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_write_bytes, atomic_write_json
from lrc.base.own_files import read_own_json, reading
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.side_files import is_file_name
from lrc.parts.packed import MANIFEST

_STATE = "unfinished.json"
_WINDOWS = "unfinished-windows.npy"
#: Of the fields of a journal, in order.
_KINDS = (dict, list, list, dict, dict, list, dict, dict)


@dataclass
class Journal:
    """Records of the matrices, files written, and what a reader should know.

    ``dropped`` counts, by file, the tokens whose activations were not finite. ``calibration`` says
    where the tokens came from (`lrc.calibrate.corpus.CalibrationText`). ``seconds`` has one entry
    a block compressed, in this run and those it resumes. ``checksums`` are the SHA-256 of files.
    ``lowered`` are parameters of matrices that were late (`lrc.pipeline.time_limit`).
    """

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    checksums: dict[str, str] = field(default_factory=dict)
    lowered: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def resume(cls, folder: Path) -> Journal:
        """The journal left in ``folder`` by an unfinished run of the same job, or a new one.

        A file that it names and that someone removed is to be made again.

        Raises
        ------
        FormatError
            The journal, or a file that it names, is damaged.
        """
        path = folder / _STATE
        if not path.is_file():
            return cls()
        with reading(path, f"remove {folder} and run again"):
            journal = cls(**read_own_json(path))
            journal._check()
        journal.files = [name for name in journal.files if (folder / name).is_file()]
        for name in journal.files:
            with reading(folder / name):
                SafetensorsFile(folder / name)
                if file_digest(folder / name).hex() != journal.checksums.get(name):
                    raise FormatError("its checksum differs from that on record")
        return journal

    def _check(self) -> None:
        """Refuse fields of another type, and entries that a reader would trip over."""
        for known, kind in zip(fields(self), _KINDS, strict=True):
            if not isinstance(getattr(self, known.name), kind):
                raise FormatError(f"{known.name} is not a {kind.__name__}")
        sound = (
            all(isinstance(record, dict) for record in self.records.values())
            and all(isinstance(text, str) for text in (*self.files, *self.warnings))
            and all(Path(name).name == name and is_file_name(name) for name in self.files)
            and all(type(count) is int for count in self.dropped.values())
            and all(isinstance(time, int | float) for time in self.seconds)
            and all(isinstance(checksum, str) for checksum in self.checksums.values())
        )
        if not sound:
            raise FormatError("an entry has the wrong type")

    def warn(self, *texts: str) -> None:
        """Put what a reader should know on record, once."""
        self.warnings += [text for text in texts if text not in self.warnings]

    def save(self, folder: Path) -> None:
        """Write the state; what it names lies complete on disk."""
        atomic_write_json(folder / _STATE, asdict(self))

    def finish(self, folder: Path) -> None:
        """Remove what only a resumed run needs."""
        for name in (_STATE, _WINDOWS):
            (folder / name).unlink(missing_ok=True)


def refuse_own_names(side_files: Iterable[Path]) -> None:
    """Refuse files beside an original's weights that would be written over.

    Raises
    ------
    FormatError
        Naming the first.
    """
    for path in side_files:
        if path.name in (_STATE, _WINDOWS, MANIFEST):
            raise FormatError(
                f"{path} has a name that lrc needs for a file of its own; rename or remove it"
            )


def is_complete(folder: Path) -> bool:
    """Whether only the last steps are left: the manifest is the last file that is written."""
    return (folder / MANIFEST).is_file()


def finished_files(folder: Path) -> int:
    """How many files in ``folder`` a run of the same job would not make again.

    Raises
    ------
    FormatError
        They are damaged.
    """
    if is_complete(folder):
        return sum(path.is_file() for path in folder.iterdir())
    return len(Journal.resume(folder).files) + (folder / _WINDOWS).is_file()


def load_windows(folder: Path) -> NDArray[np.integer] | None:
    """Calibration tokens (N, T) of an unfinished run, or None.

    Raises
    ------
    FormatError
        They are damaged.
    """
    path = folder / _WINDOWS
    if not path.is_file():
        return None
    with reading(path):
        windows: NDArray[np.integer] = np.load(path, allow_pickle=False)
        if windows.ndim != 2 or windows.dtype.kind not in "iu":
            raise FormatError(f"{windows.dtype} {windows.shape} where tokens (N, T) should be")
    return windows


def save_windows(folder: Path, windows: NDArray[np.integer]) -> None:
    """Keep the calibration tokens: text that the model writes takes minutes to repeat."""
    content = io.BytesIO()
    np.save(content, windows, allow_pickle=False)
    atomic_write_bytes(folder / _WINDOWS, content.getvalue())
