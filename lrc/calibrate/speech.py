"""Calibration of speech models: utterances in place of token windows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrc.calibrate.examples import SpeechExamples
from lrc.errors import SpecError
from lrc.models.speech import SpeechModel, needs_audio
from lrc.run.speech import Speech
from lrc.run.utterances import Utterance, hear, read_utterances
from lrc.spec import CalibrationSpec

#: Part of the windows that is sound, below which a reader is told.
_MOSTLY_SILENCE = 0.5


@dataclass(frozen=True, eq=False)
class CalibrationSpeech:
    """Utterances, and what a report says of where they came from."""

    examples: SpeechExamples
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()


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
    sound = seconds / (len(heard) * speech.front.seconds)
    if sound < _MOSTLY_SILENCE:
        warnings.append(
            f"{1 - sound:.0%} of what the encoder is calibrated on is the silence behind "
            f"utterances; longer ones, up to {speech.front.seconds} seconds, say more"
        )
    return CalibrationSpeech(SpeechExamples(heard), record, tuple(warnings))
