"""Calibration of speech models: utterances in place of token windows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrc.calibrate.streams import Inputs
from lrc.errors import SpecError
from lrc.models.speech import SpeechModel, needs_audio
from lrc.run.speech import Speech
from lrc.run.utterances import Utterance, hear, read_utterances
from lrc.spec import CalibrationSpec


@dataclass(frozen=True, eq=False)
class CalibrationSpeech:
    """What runs through the model, and what a report says of where it came from."""

    inputs: Inputs
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of all texts, those around them included."""
        return sum(ids.size for ids in self.inputs[-1])


def chosen_utterances(spec: CalibrationSpec, seed: int) -> list[Utterance]:
    """``nsamples`` utterances, spread over the lists; all, where there are no more.

    Raises
    ------
    CalibrationError
        A list cannot be read.
    SpecError
        No list is given, or a length of windows, which utterances have not.
    """
    if not spec.files:
        raise needs_audio()
    if spec.seqlen != "auto":
        raise SpecError(
            f"seqlen={spec.seqlen} is the length of windows of text; a speech model takes every "
            "utterance whole: leave it at auto"
        )
    every = [one for name in spec.files for one in read_utterances(Path(name))]
    count = min(spec.nsamples, len(every))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    edges = [len(every) * i // count for i in range(count + 1)]
    return [every[rng.integers(low, high)] for low, high in itertools.pairwise(edges)]


def calibration_speech(
    spec: CalibrationSpec,
    utterances: list[Utterance],
    model: SpeechModel,
    speech: Speech,
    threads: int,
) -> CalibrationSpeech:
    """Utterances as the model takes them: features for its encoder, tokens for its decoder.

    Raises
    ------
    CalibrationError, FormatError, SpecError
        As `hear`.
    """
    heard = hear(utterances, model, speech, threads)
    seconds = sum(one.seconds for one in heard)
    record = {
        "source": "audio",
        "utterances": len(heard),
        "seconds": seconds,
        "lists": list(spec.files),
    }
    warnings = []
    if len(heard) < spec.nsamples:
        warnings.append(f"the audio lists have {len(heard)} utterances, not {spec.nsamples}")
    return CalibrationSpeech(
        ([one.features for one in heard], [one.ids for one in heard]), record, tuple(warnings)
    )
