"""Speech whose words are known: audio files with text, for calibration and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.audio.mel import log_mel
from lrc.audio.resample import RATE, read_audio
from lrc.base.strict_json import parse_object
from lrc.base.threads import ordered_map
from lrc.errors import CalibrationError, FormatError
from lrc.models.speech import SpeechModel
from lrc.models.sweep import sweep
from lrc.run.speech import Speech
from lrc.run.speech_tokens import SpeechTokens

F32 = NDArray[np.float32]
_EXPECTED = 'expected {"audio": PATH, "text": "..."}, and "language" where it is known'
#: Keys with which other programs take a part of a file; taking the whole would be another text.
_PARTS = ("offset", "start", "end", "begin")


@dataclass(frozen=True)
class Utterance:
    """An audio file, what is said in it, and in which language if that is known."""

    audio: Path
    text: str
    language: str | None = None


@dataclass(frozen=True, eq=False)
class Heard:
    """An utterance as a speech model takes it.

    Attributes
    ----------
    features : (1, bands, frames) float32
    ids : (1, T) integers
        The prompt, the text and the token that ends it.
    first : int
        Place of the text's first token.
    seconds : float
    """

    features: F32
    ids: NDArray[np.integer]
    first: int
    seconds: float


def read_utterances(path: Path) -> list[Utterance]:
    """Read a ``.jsonl`` file of audio files, beside it or with a whole path, and their texts.

    Raises
    ------
    CalibrationError
        It cannot be read, or a line is not as expected; named.
    """
    if not path.is_file():
        raise CalibrationError(
            f"audio list {path} does not exist; each of its lines is {_EXPECTED}"
        )
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CalibrationError(f"audio list {path} cannot be read: {error.strerror}") from error
    found = [_utterance(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise CalibrationError(f"audio list {path} is empty; each of its lines is {_EXPECTED}")
    return found


def _utterance(path: Path, number: int, line: bytes) -> Utterance:
    where = f"{path}, line {number}"
    try:
        row = parse_object(line, where)
    except FormatError as error:
        raise CalibrationError(f"{error}; {_EXPECTED}") from error
    audio, text, language = (row.get(key) for key in ("audio", "text", "language"))
    if not (isinstance(audio, str) and isinstance(text, str) and isinstance(language, str | None)):
        raise CalibrationError(f"{where}: {_EXPECTED}; found {_described(row)}")
    part = next((key for key in _PARTS if row.get(key) is not None), None)
    if part is not None:
        raise CalibrationError(
            f"{where}: {part!r} takes a part of a file, which is not done; cut the file"
        )
    if "\0" in audio or _has_surrogates(audio):
        raise CalibrationError(f"{where}: {audio!r} is no name of a file")
    return Utterance(path.parent / audio, text, language)


def _has_surrogates(text: str) -> bool:
    """Whether halves of UTF-16 pairs are in a text, which no file's name has."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _described(row: dict[str, Any]) -> str:
    return ", ".join(f'"{key}": a {type(value).__name__}' for key, value in list(row.items())[:6])


def hear(
    utterances: Sequence[Utterance],
    model: SpeechModel,
    speech: Speech,
    threads: int,
) -> list[Heard]:
    """Read audio and text as a model takes them; it finds out the languages that are not given.

    Raises
    ------
    CalibrationError
        An utterance is longer than a window of audio, or its text than the model's context.
    FormatError
        An audio file cannot be read.
    SpecError
        The model does not know a language.
    """
    front, tokens = speech.front, speech.tokens

    def read(utterance: Utterance) -> F32:
        samples = read_audio(utterance.audio)
        if len(samples) > front.samples:
            raise CalibrationError(
                f"{utterance.audio} is {len(samples) / RATE:.1f} seconds long and the model hears "
                f"{front.seconds} at once; cut it at a pause, and its text"
            )
        return samples

    prompts = [tokens.prompt(utterance.language) for utterance in utterances]
    samples = list(ordered_map(read, utterances, threads))
    features = [log_mel(one, front)[None] for one in samples]
    open_at = [i for i, prompt in enumerate(prompts) if None in prompt]
    known = _languages([features[i] for i in open_at], model, tokens, threads)
    named = dict(zip(open_at, known, strict=True))
    heard = []
    for i, (utterance, prompt) in enumerate(zip(utterances, prompts, strict=True)):
        told = [named[i] if token is None else token for token in prompt]
        ids = np.array([*told, *speech.text_ids(utterance.text), *tokens.end[:1]])
        if len(ids) > model.context:
            raise CalibrationError(
                f"the text of {utterance.audio} has {len(ids)} tokens with those around it, and "
                f"the model's context is {model.context}; cut both"
            )
        heard.append(Heard(features[i], ids[None], len(told), len(samples[i]) / RATE))
    return heard


def _languages(
    features: Sequence[F32], model: SpeechModel, tokens: SpeechTokens, threads: int
) -> list[int]:
    """The likeliest token of a language after the first token, one block of the model at a time."""
    if not features:
        return []
    start = np.array([[tokens.start]])
    parts = [(one, start) for one in features]
    known = sorted(tokens.languages.values())
    last = sweep(model.as_stored(), parts, threads)
    return [known[int(model.head(h[0, -1])[known].argmax())] for h in last]
