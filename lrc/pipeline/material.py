"""What a compression is calibrated on: windows of text, or utterances for a model that hears."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrc.base.progress import Progress
from lrc.calibrate.corpus import GIVEN, WINDOW, check_files, described, window_length
from lrc.calibrate.examples import Examples, TextExamples
from lrc.calibrate.mixture import calibration_windows
from lrc.calibrate.shipped import shipped_files
from lrc.calibrate.speech import calibration_speech, chosen_utterances
from lrc.calibrate.windows import given_windows
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.models.base import Model
from lrc.models.speech import SpeechModel
from lrc.pipeline.job import Job
from lrc.pipeline.journal import load_windows, save_windows
from lrc.run.speech import Speech
from lrc.run.text import Tokenizer
from lrc.run.utterances import Utterance
from lrc.spec import CompressSpec


class Material(ABC):
    """Where calibration comes from; everything that can be refused at once has been.

    Attributes
    ----------
    spec : CompressSpec
        What was asked for, with the lengths that it left open.
    importance : mapping or None
        Mean squares (n,) of the inputs of every matrix by name, where they are known beforehand.
    """

    spec: CompressSpec
    importance: Mapping[str, NDArray[np.float64]] | None = None

    @abstractmethod
    def identity(self) -> Iterator[str | bytes]:
        """What it is, beside the spec: another material gives other texts."""

    @abstractmethod
    def examples(self, job: Job, progress: Progress) -> Examples:
        """Make it, and put where it came from into the job's journal."""


class TextMaterial(Material):
    """Token windows that the caller gives, or that are drawn over files or written by the model.

    Raises
    ------
    LrcError
        The windows are none of the model, or a file cannot be calibrated on.
    """

    def __init__(
        self, model: Model, tokenizer: Tokenizer, asked: CompressSpec, windows: ArrayLike | None
    ) -> None:
        self._tokenizer, self._asked, self.spec = tokenizer, asked, asked
        self._given = None if windows is None else given_windows(windows, model)
        if windows is None:
            check_files(asked.calibration.files)
            length = window_length(asked.calibration, model.context)
            calibration = dataclasses.replace(asked.calibration, seqlen=length)
            self.spec = dataclasses.replace(asked, calibration=calibration)

    def identity(self) -> Iterator[str | bytes]:
        """The windows, or digests of the files."""
        if self._given is not None:
            yield np.ascontiguousarray(self._given, np.int64).tobytes()
            return
        yield b""
        calibration = self.spec.calibration
        shipped = shipped_files() if calibration.window_counts().shipped else ()
        yield from (file_digest(Path(name)) for name in (*calibration.files, *shipped))

    def examples(self, job: Job, progress: Progress) -> Examples:
        """The windows, those of the interrupted run if there are any."""
        windows = self._given
        if windows is None:
            windows = self._drawn(job, progress)
        elif not job.journal.calibration:
            job.journal.calibration = described(windows, GIVEN)
        if not job.journal.files and self.spec != self._asked and windows.shape[1] < WINDOW:
            job.journal.warn(
                f"calibration windows are {job.model.context} tokens long, the model's whole "
                "context"
            )
        return TextExamples(windows)

    def _drawn(self, job: Job, progress: Progress) -> NDArray[np.integer]:
        kept = load_windows(job.folder)
        if kept is not None:
            return kept
        text = calibration_windows(
            job.spec.calibration,
            self._tokenizer,
            job.model,
            seed=job.spec.decompose.seed,
            threads=job.threads,
            progress=progress,
        )
        job.journal.calibration = text.record
        job.journal.warn(*text.warnings)
        job.journal.save(job.folder)
        save_windows(job.folder, text.windows)
        return text.windows


class SpeechMaterial(Material):
    """Utterances of the lists that the spec names.

    Raises
    ------
    LrcError
        A list or a file beside the model cannot be read, or the spec asks for windows of text.
    """

    def __init__(
        self, model: SpeechModel, folder: Path, tokenizer: Tokenizer, spec: CompressSpec
    ) -> None:
        self.spec, self._model = spec, model
        self._speech = Speech.open(folder, model, tokenizer)
        self._utterances: list[Utterance] = chosen_utterances(spec.calibration, spec.decompose.seed)

    def identity(self) -> Iterator[str | bytes]:
        """Digests of the lists, and of the audio files that are used."""
        yield from (file_digest(Path(name)) for name in self.spec.calibration.files)
        yield from (file_digest(one.audio) for one in self._utterances)

    def examples(self, job: Job, progress: Progress) -> Examples:
        """The utterances as the model takes them; they are read again by each run."""
        made = calibration_speech(
            self.spec.calibration, self._utterances, self._model, self._speech, job.threads
        )
        job.journal.calibration = made.record
        job.journal.warn(*made.warnings)
        return made.examples


def material_of(
    model: Model,
    folder: Path,
    tokenizer: Tokenizer,
    spec: CompressSpec,
    windows: ArrayLike | None,
) -> Material:
    """Where the calibration of a model in ``folder`` comes from.

    Raises
    ------
    LrcError
        As `TextMaterial` and `SpeechMaterial`.
    """
    if spec.calibration.imatrix:
        from lrc.pipeline.given_moments import ImatrixMaterial

        if windows is not None:
            raise SpecError("an importance matrix stands for text, and token windows are given")
        return ImatrixMaterial(model, tokenizer, spec)
    if not isinstance(model, SpeechModel):
        return TextMaterial(model, tokenizer, spec, windows)
    if windows is not None:
        raise SpecError("a speech model is calibrated on audio, and token windows are given")
    return SpeechMaterial(model, folder, tokenizer, spec)
