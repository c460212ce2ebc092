"""What a budget does not change, on disk: candidates and sensitivities."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lrc.allocation.candidates import CandidateStore
from lrc.allocation.options import Option
from lrc.allocation.sensitivity import Sensitivities, measure
from lrc.allocation.survey import SurveyJob
from lrc.base.atomic import atomic_write_json
from lrc.base.fingerprint import fingerprint
from lrc.base.lock import LockedFile
from lrc.base.own_files import read_own_json, reading
from lrc.base.partial import MARKER
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.parts.manifest import FORMAT_VERSION
from lrc.spec import AllocationSpec, CalibrationSpec, CompressSpec, MetricSpec

#: To be raised when the same question gets another answer.
SURVEY_VERSION = 4

_OWNER, _CANDIDATES, _MEASURED = "survey.json", "levels", "sensitivities.json"
#: What may lie in a folder whose claim a killed run did not finish.
_CLAIMING = {MARKER, f"{_OWNER}.partial"}


class SurveyStore:
    """A folder with the survey of one model, which any budget can be met from.

    An interrupted survey goes on there, and one that is complete costs nothing to use again.

    Parameters
    ----------
    folder
        Made by :meth:`claim` where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.candidates = CandidateStore(folder / _CANDIDATES)

    def check(
        self,
        source: Checkpoint,
        spec: CompressSpec,
        allocation: AllocationSpec,
        examples: str | None = None,
    ) -> dict[str, str]:
        """Check that what the folder holds, if anything, was found for the same question.

        Without the identity of ``examples`` any calibration will do. Returns what identifies the
        question.

        Raises
        ------
        SpecError
            It is of another model, calibration or version, or no survey at all.
        FormatError
            What says of which it is, is damaged.
        """
        effort = dataclasses.replace(allocation, bits_per_weight=1.0, file_bytes=0, generations=0)
        # Of the calibration a survey uses the windows, and which of their tokens experts see.
        calibration = CalibrationSpec(all_experts=spec.calibration.all_experts)
        surveyed = dataclasses.replace(spec, calibration=calibration, metric=MetricSpec())
        question = {
            "model and options": fingerprint(
                source.digest(),
                json.dumps(surveyed.to_dict()),
                json.dumps(effort.to_dict()),
                str(SURVEY_VERSION),
                str(FORMAT_VERSION),
            )
        }
        if examples is not None:
            question["calibration"] = examples
        owner = self.folder / _OWNER
        if owner.is_file():
            with reading(owner, f"remove {self.folder}, or give another folder"):
                kept = read_own_json(owner)
            if any(kept.get(what) != asked for what, asked in question.items()):
                raise SpecError(
                    f"{self.folder} holds a survey of another model, calibration text, options or "
                    "version; give another folder, or remove it"
                )
        elif self.folder.exists() and not self._is_claimable():
            raise SpecError(f"{self.folder} is not empty and holds no survey; give another folder")
        return question

    def _is_claimable(self) -> bool:
        folder = self.folder
        return folder.is_dir() and {path.name for path in folder.iterdir()} <= _CLAIMING

    @contextlib.contextmanager
    def claimed(
        self,
        source: Checkpoint,
        spec: CompressSpec,
        allocation: AllocationSpec,
        examples: str,
        *,
        blocks: int,
    ) -> Iterator[None]:
        """Make the folder, or :meth:`check` it; within, what it lacks of ``blocks`` is measured.

        One process at a time may do that. What is complete is only read, by any number.

        Raises
        ------
        OutputError
            Another process is measuring.
        """
        self.check(source, spec, allocation, examples)
        if (self.folder / _MEASURED).is_file() and self.candidates.count() == blocks:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with LockedFile.take(self.folder / MARKER) as marker:
            question = self.check(source, spec, allocation, examples)
            atomic_write_json(self.folder / _OWNER, question)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    marker.remove()

    def measured(
        self,
        job: SurveyJob,
        options: Mapping[str, Sequence[Option]],
        tables: Mapping[str, Mapping[int, float]],
    ) -> Sensitivities:
        """Sensitivities of matrices and ``tables``: those kept, if all were measured."""
        path = self.folder / _MEASURED
        if path.is_file():
            with reading(path):
                kept = Sensitivities(**read_own_json(path))
                kept.check(options)
            if set(tables) <= set(kept.tables):
                return kept
        found = measure(job, options, tables)
        atomic_write_json(path, dataclasses.asdict(found))
        return found

    def remove(self) -> None:
        """Delete what was written."""
        self.candidates.remove()
        for name in (_MEASURED, _OWNER, MARKER):
            for path in self.folder.glob(f"{name}*"):
                path.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()
