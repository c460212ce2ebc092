"""Speech to text: the likeliest token each time, one window of audio after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.audio.mel import audio_windows, log_mel
from lrc.audio.resample import RATE
from lrc.base.threads import resolve_threads, single_threaded_blas
from lrc.errors import FormatError, SpecError
from lrc.models.speech import SpeechModel
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.nn.memory import MemoryCache
from lrc.run.generate import ACTIVATIONS
from lrc.run.load import LoadedModel
from lrc.run.sampler import Logits, check_logits
from lrc.run.speech import Speech

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """What was said in one window of audio.

    ``begin`` and ``end`` are in seconds; ``complete`` is false where the model's context ended
    before the text did.
    """

    begin: float
    end: float
    text: str
    complete: bool


class Transcriber:
    """A speech model with all that belongs to it.

    Parameters
    ----------
    model : SpeechModel
    speech : Speech
    threads : int or None
        Threads that share the work; None is every processor. The text does not depend on it.
    activations : {"i8", "f32"}
        As of `lrc.generate`: what a compressed model multiplies with, token by token.

    Raises
    ------
    SpecError
        ``activations`` is unknown.
    """

    def __init__(
        self,
        model: SpeechModel,
        speech: Speech,
        threads: int | None = None,
        activations: str = "i8",
    ) -> None:
        if activations not in ACTIVATIONS:
            raise SpecError(f"activations={activations!r} must be one of {', '.join(ACTIVATIONS)}")
        self._model, self._speech = model, speech
        self._tokens = speech.tokens
        self._execution = Execution(Team(resolve_threads(threads)), activations == "i8")

    def segments(
        self, samples: F32, language: str | None = None, task: str | None = None
    ) -> Iterator[Segment]:
        """Transcribe audio (N,) at `RATE`, in consecutive windows of the model's length.

        A word that is said across the end of a window is cut there. The language is heard in
        each window unless it is asked for, or forced by the model's files.

        Raises
        ------
        SpecError
            At once, where the model does not know the language or the task.
        NumericalError
            The model's logits are not finite.
        """
        prompt = self._tokens.prompt(language, task)
        return self._segments(samples, prompt)

    def _segments(self, samples: F32, prompt: tuple[int | None, ...]) -> Iterator[Segment]:
        at = 0
        for window in audio_windows(samples, self._speech.front):
            text, complete = self.text(log_mel(window, self._speech.front), prompt)
            begin, at = at, at + len(window)
            yield Segment(begin / RATE, at / RATE, text, complete)

    def text(self, features: F32, prompt: tuple[int | None, ...]) -> tuple[str, bool]:
        """What is said after a prompt; see `ids`."""
        ids, complete = self.ids(features, prompt)
        return self._speech.tokenizer.decode(ids).strip(), complete

    def ids(self, features: F32, prompt: tuple[int | None, ...]) -> tuple[list[int], bool]:
        """Tokens after a prompt about features (bands, frames), and whether the text has ended.

        A None of the prompt is the language that the model finds likeliest.
        """
        with single_threaded_blas():
            cache = self._model.listen(features[None], self._model.context, self._execution)
            language = self._language(cache) if None in prompt else None
            told = np.array([language if token is None else token for token in prompt])
            return self._continue(told, cache)

    def _language(self, cache: MemoryCache) -> int:
        """The token of the language that is heard; the cache is as empty as before."""
        logits = self._advance(np.array([self._tokens.start]), cache.branch())
        known = sorted(self._tokens.languages.values())
        return known[int(logits[known].argmax())]

    def _continue(self, ids: NDArray[np.integer], cache: MemoryCache) -> tuple[list[int], bool]:
        found: list[int] = []
        never = list(self._tokens.suppressed)
        while cache.length + len(ids) <= self._model.context:
            logits = self._advance(ids, cache)
            logits[never] = -np.inf
            if not found:
                logits[list(self._tokens.suppressed_first)] = -np.inf
            token = int(logits.argmax())
            if token in self._tokens.end:
                return found, True
            found.append(token)
            ids = np.array([token])
        return found, False

    def _advance(self, ids: NDArray[np.integer], cache: MemoryCache) -> Logits:
        """Logits (vocab,) after the tokens ``ids`` (T,)."""
        hidden = self._model.hidden(ids[None], cache, self._execution)
        logits: Logits = np.array(self._model.head(hidden[0, -1], self._execution))
        check_logits(logits)
        return logits


def open_transcriber(
    loaded: LoadedModel, threads: int | None = None, activations: str = "i8"
) -> Transcriber:
    """A loaded speech model with what its directory says of features and tokens.

    Raises
    ------
    FormatError
        The model hears nothing, or a file is missing or malformed, or does not belong to it.
    """
    model = loaded.model
    if not isinstance(model, SpeechModel):
        kind = loaded.source.config.get("model_type")
        raise FormatError(
            f"{loaded.path} is a {kind} model, which hears nothing; give one such as whisper"
        )
    speech = Speech.open(loaded.path, model, loaded.tokenizer)
    return Transcriber(model, speech, threads, activations)
