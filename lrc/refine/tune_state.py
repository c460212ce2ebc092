"""A tuning that goes on where it was interrupted: ``OUT.tuning``, which lies there until it ends.

``base`` holds the model as it was: its files are linked where that can be done, else copied.
``state.npz`` is what the next step needs, as of the last check, ``windows.npy`` the text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_write_bytes
from lrc.base.fingerprint import code_digest, fingerprint
from lrc.base.partial import PartialDirectory, sync_directory, sync_tree
from lrc.base.strict_json import read_object
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.parts.manifest import read_manifest
from lrc.parts.packed import MANIFEST
from lrc.refine.adam import AdamW
from lrc.refine.options import TuneSpec
from lrc.refine.vjp import Array

Key = tuple[str, str]
Values = dict[Key, Array]
_BASE, _STATE, _WINDOWS = "base", "state.npz", "windows.npy"


@dataclass
class TuneState:
    """Where a tuning stands.

    Attributes
    ----------
    step, steps : int
        Steps made, and to be made.
    rate : float
        The highest learning rate, as long as nothing has gone wrong.
    slower : float
        What it is multiplied by now.
    before, best : float
        Divergence of held-out text at the start, and of what is stored.
    stored : int
        After which step that was; 0: nothing is.
    moves, best_moves : dict
        How far each number has gone, in units of its array; and where the best was.
    adam : AdamW
    """

    steps: int
    rate: float
    before: float
    best: float
    moves: Values
    best_moves: Values
    step: int = 0
    slower: float = 1.0
    stored: int = 0
    adam: AdamW[Key] = field(default_factory=AdamW)

    _NUMBERS = ("steps", "rate", "before", "best", "step", "slower", "stored")

    def arrays(self, keys: Sequence[Key]) -> dict[str, NDArray[Any]]:
        """All of it, by name."""
        found = {name: np.array(getattr(self, name)) for name in self._NUMBERS}
        found["adam_steps"] = np.array(self.adam.steps)
        for i, key in enumerate(keys):
            found |= {f"moves.{i}": self.moves[key], f"best_moves.{i}": self.best_moves[key]}
            if key in self.adam.moments:
                found[f"m.{i}"], found[f"v.{i}"] = self.adam.moments[key]
        return found

    @classmethod
    def of_arrays(cls, found: dict[str, NDArray[Any]], keys: Sequence[Key]) -> Self:
        """The state that `arrays` has given."""
        numbers = {name: found[name].item() for name in cls._NUMBERS}
        moments = {
            key: (found[f"m.{i}"], found[f"v.{i}"])
            for i, key in enumerate(keys)
            if f"m.{i}" in found
        }
        return cls(
            moves={key: found[f"moves.{i}"] for i, key in enumerate(keys)},
            best_moves={key: found[f"best_moves.{i}"] for i, key in enumerate(keys)},
            adam=AdamW(steps=found["adam_steps"].item(), moments=moments),
            **numbers,
        )


class TuningRun:
    """The directory of a tuning; make one with :meth:`claim`.

    Attributes
    ----------
    base : Path
        The model as it was before.
    name : str
        What tells this tuning from others; its record has it as ``run``.
    """

    def __init__(self, partial: PartialDirectory, name: str) -> None:
        self._partial = partial
        self.base = partial.folder / _BASE
        self.name = name

    @classmethod
    def claim(
        cls, folder: Path, against: str, spec: TuneSpec, tell: Callable[[str], object]
    ) -> Self:
        """Go on with what lies beside ``folder``, or begin.

        Parameters
        ----------
        folder : Path
            Of the compressed model.
        against : str
            Digest of the original.
        spec : TuneSpec
        tell : function
            Hears of another tuning that is given up.
        """
        folder = folder.absolute()
        texts = [file_digest(Path(name)) for name in spec.files]
        name = fingerprint(repr(spec.to_dict()), *texts, against, code_digest())[:16]
        partial = PartialDirectory.claim(folder.with_name(folder.name + ".tuning"), name, tell)
        run = cls(partial, name)
        if not run._is_of(folder):
            run._begin(folder)
        return run

    def _is_of(self, folder: Path) -> bool:
        """Whether what lies there was begun with the model that is, or made it."""
        if not (self.base / MANIFEST).is_file():
            return False
        if (self.base / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes():
            return True
        tuned = read_object(folder / MANIFEST).get("tuned", [])
        return bool(tuned) and tuned[-1].get("run") == self.name

    def _begin(self, folder: Path) -> None:
        for name in (_STATE, _WINDOWS):
            (self._partial.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.base, ignore_errors=True)
        self.base.mkdir()
        for name in (*read_manifest(folder)["files"], "config.json", MANIFEST):  # that last
            try:
                os.link(folder / name, self.base / name)
            except OSError:
                shutil.copyfile(folder / name, self.base / name)
        sync_tree(self.base)  # else a power cut leaves a model that is tuned, and not what it was
        sync_directory(self._partial.folder)

    def windows(self, drawn: Callable[[], NDArray[np.integer]]) -> NDArray[np.integer]:
        """Windows of tokens (count, T): those of before, or what is ``drawn`` now."""
        path = self._partial.folder / _WINDOWS
        if path.is_file():
            with contextlib.suppress(ValueError, EOFError):  # cut off where a run was killed
                found: NDArray[np.integer] = np.load(path, allow_pickle=False)
                return found
        made, stream = drawn(), io.BytesIO()
        np.save(stream, made)
        atomic_write_bytes(path, stream.getvalue())
        return made

    def load(self, keys: Sequence[Key]) -> TuneState | None:
        """The state that was saved; None where there is none."""
        path = self._partial.folder / _STATE
        if not path.is_file():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                return TuneState.of_arrays(dict(found), keys)
        except (OSError, ValueError, KeyError) as error:
            raise FormatError(f"{path} is damaged; remove {path.parent} to begin anew") from error

    def save(self, state: TuneState, keys: Sequence[Key]) -> None:
        """Keep ``state`` for a run that goes on from here."""
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **state.arrays(keys))
        atomic_write_bytes(self._partial.folder / _STATE, stream.getvalue())

    def finish(self) -> None:
        """Remove the directory: all that was learned is in the model."""
        self._partial.discard()

    def close(self) -> None:
        """Let it go; it stays for a run that goes on, where there is something to go on from."""
        if not (self._partial.folder / _STATE).is_file():
            self._partial.discard()
        self._partial.close()


def slowed(state: TuneState) -> TuneState:
    """Back at its best: what comes next starts there, slower, with fresh moments."""
    return dataclasses.replace(
        state, moves=dict(state.best_moves), slower=state.slower / 2, adam=AdamW()
    )
