"""Speech to text: the likeliest token each time, window by window of the audio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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
from lrc.run.timestamps import Times

F32 = NDArray[np.float32]
#: Tokens that a transcript begins with; None is the language, which is to be heard.
Prompt: TypeAlias = tuple[int | None, ...]


@dataclass(frozen=True)
class Segment:
    """What was said in a stretch of audio.

    ``begin`` and ``end`` are in seconds; ``complete`` is false where the model's context ended
    before the text of the window did.
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
        times = speech.tokens.times()
        self._times = times if times is not None and times.zero < model.vocab_size else None
        self._execution = Execution(Team(resolve_threads(threads)), activations != "f32")

    def segments(
        self,
        samples: F32,
        language: str | None = None,
        task: str | None = None,
        *,
        timed: bool | None = None,
    ) -> Iterator[Segment]:
        """Transcribe audio (N,) at `RATE`, window by window of the model's length.

        With times, a window begins where the last whole stretch of the one before has ended.
        Without, windows are consecutive, and a word that is said across an end is cut. The language
        is heard in each window unless it is asked for, or forced by the model's files.

        Parameters
        ----------
        samples : (N,) float32
        language, task : str or None
            As of `SpeechTokens.prompt`.
        timed : bool or None
            Whether the model is to write times; None is for audio longer than a window, where
            the model has tokens for it.

        Raises
        ------
        SpecError
            At once, where the model does not know the language or the task, or has no times.
        NumericalError
            The model's logits are not finite.
        """
        if timed is None:
            timed = self._times is not None and len(samples) > self._speech.front.samples
        prompt = self._tokens.prompt(language, task, timed=timed)
        if not timed:
            return self._plain(samples, prompt)
        if self._times is None:
            raise SpecError("the model has no tokens for times; its transcripts are without")
        return self._timed(samples, prompt, self._times)

    def _plain(self, samples: F32, prompt: Prompt) -> Iterator[Segment]:
        at = 0
        for window in audio_windows(samples, self._speech.front):
            text, complete = self.text(log_mel(window, self._speech.front), prompt)
            begin, at = at, at + len(window)
            yield Segment(begin / RATE, at / RATE, text, complete)

    def _timed(self, samples: F32, prompt: Prompt, times: Times) -> Iterator[Segment]:
        front, at = self._speech.front, 0
        while at < len(samples):
            window = samples[at : at + front.samples]
            ids, complete = self.ids(log_mel(window, front), prompt, times)
            stretches, heard = times.stretches(ids, len(window) / RATE)
            for one in stretches:
                begin, end = (at / RATE + min(t, len(window) / RATE) for t in (one.begin, one.end))
                yield Segment(begin, end, self._text(one.ids), complete)
            moved = round(heard * RATE)
            at += moved if 0 < moved < len(window) else len(window)

    def text(self, features: F32, prompt: Prompt) -> tuple[str, bool]:
        """What is said after a prompt, without times; see `ids`."""
        ids, complete = self.ids(features, prompt)
        return self._text(ids), complete

    def _text(self, ids: Sequence[int]) -> str:
        times = self._times
        kept = ids if times is None else [token for token in ids if token < times.zero]
        return self._speech.tokenizer.decode(kept).strip()

    def ids(
        self, features: F32, prompt: Prompt, times: Times | None = None
    ) -> tuple[list[int], bool]:
        """Tokens after a prompt about features (bands, frames), and whether the text has ended.

        A None of the prompt is the language that the model finds likeliest.
        """
        with single_threaded_blas():
            cache = self._model.listen(features[None], self._model.context, self._execution)
            language = self._language(cache) if None in prompt else None
            told = np.array([language if token is None else token for token in prompt])
            return self._continue(told, cache, times)

    def _language(self, cache: MemoryCache) -> int:
        """The token of the language that is heard; the cache is as empty as before."""
        logits = self._advance(np.array([self._tokens.start]), cache.branch())
        known = sorted(self._tokens.languages.values())
        return known[int(logits[known].argmax())]

    def _continue(
        self, ids: NDArray[np.integer], cache: MemoryCache, times: Times | None
    ) -> tuple[list[int], bool]:
        found: list[int] = []
        never = list(self._tokens.suppressed)
        while cache.length + len(ids) < self._model.context:
            logits = self._advance(ids, cache)
            logits[never] = -np.inf
            if not found:
                logits[list(self._tokens.suppressed_first)] = -np.inf
            if times is not None:
                times.restrict(logits, found)
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
