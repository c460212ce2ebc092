"""How well a speech model writes what was said: word errors, and its distance to the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import chunks, ordered_map, resolve_threads
from lrc.errors import SpecError
from lrc.measure.bootstrap import Interval, exp, exp_interval, ratio_interval
from lrc.measure.divergence import Prediction
from lrc.measure.words import WordErrors, word_errors
from lrc.models.speech import SpeechModel
from lrc.models.sweep import sweep
from lrc.run.speech import Speech
from lrc.run.transcribe import Transcriber
from lrc.run.utterances import Heard, Utterance, hear

#: Utterances whose audio and residual streams exist at the same time.
UTTERANCES = 16
#: Positions whose logits exist at the same time, for each thread.
ROWS = 128


@dataclass(frozen=True)
class SpeechEvaluation:
    """Word errors of transcripts, and figures of the given texts' tokens.

    Tokens are those of the texts and the one that ends each, predicted from the audio and all
    that is before them. Intervals hold 95 % by a bootstrap over utterances; they are None with
    fewer than two. Fields about the other model are None where there is none:
    ``against_words`` are its own word errors, ``kl_divergence`` is KL(other || model) in nats a
    token, ``top1_agreement`` the share of tokens where both find the same likeliest.
    """

    words: WordErrors
    perplexity: float
    perplexity_interval: Interval | None
    tokens: int
    utterances: int
    transcripts: tuple[str, ...]
    incomplete: int
    against_words: WordErrors | None = None
    against_perplexity: float | None = None
    kl_divergence: float | None = None
    kl_interval: Interval | None = None
    top1_agreement: float | None = None


def evaluate_speech(
    model: SpeechModel,
    speech: Speech,
    utterances: Sequence[Utterance],
    against: SpeechModel | None = None,
    *,
    activations: str = "i8",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> SpeechEvaluation:
    """Transcribe utterances, and score their texts.

    Parameters
    ----------
    model : SpeechModel
    speech : Speech
        Of the model, and of ``against``.
    utterances : sequence of Utterance
        Each no longer than the model hears at once.
    against : SpeechModel or None
        The model to compare with, usually the uncompressed one.
    activations : {"i8", "f32"}
        What transcripts are made with, as of `Transcriber`; given texts are scored on float32
        activations always.
    threads : int or None
        Never changes the result.
    progress : Progress

    Raises
    ------
    CalibrationError, FormatError, SpecError
        As `hear`; or the two models hear different features.
    """
    if against is not None and against.features != model.features:
        raise SpecError(
            f"the models hear features of {model.features} and {against.features} (bands, "
            "frames); compare a model with the one it was made from"
        )
    workers = resolve_threads(threads)
    everyone = [model] if against is None else [model, against]
    figures, written = [], [_Written() for _ in everyone]
    for group in chunks(len(utterances), UTTERANCES):
        heard = hear(utterances[group], everyone[-1], speech, workers)
        figures += _figures(everyone, heard, workers, progress)
        for one, of in zip(everyone, written, strict=True):
            of.add(Transcriber(one, speech, workers, activations), heard, progress)
    return _evaluation([one.text for one in utterances], written, np.array(figures))


@dataclass
class _Written:
    """Transcripts of a model, and how many of them its context cut short."""

    texts: list[str] = field(default_factory=list)
    incomplete: int = 0

    def add(self, transcriber: Transcriber, heard: Sequence[Heard], progress: Progress) -> None:
        """Transcribe what was heard, each with the prompt of its given text."""
        with progress.bar("transcribing", len(heard), "utterance") as advance:
            for one in heard:
                prompt = tuple(map(int, one.ids[0, : one.first]))
                text, complete = transcriber.text(one.features[0], prompt)
                self.texts.append(text)
                self.incomplete += not complete
                advance()


def _figures(
    models: Sequence[SpeechModel], heard: Sequence[Heard], threads: int, progress: Progress
) -> list[NDArray[np.float64]]:
    """Of each utterance: its tokens, and sums of what `_score` says of them."""
    parts = [(one.features, one.ids[:, :-1]) for one in heard]
    streams = [sweep(model.as_stored(), parts, threads, progress, "evaluating") for model in models]

    def score(place: int) -> NDArray[np.float64]:
        one = heard[place]
        targets = one.ids[0, one.first :]
        hidden = [of[place][0, one.first - 1 :] for of in streams]
        parts = [
            _score(models, [h[rows] for h in hidden], targets[rows])
            for rows in chunks(len(targets), ROWS)
        ]
        return np.array([len(targets), *np.sum(parts, axis=0)])

    return list(ordered_map(score, range(len(heard)), threads))


def _score(
    models: Sequence[SpeechModel],
    hidden: Sequence[NDArray[np.float32]],
    targets: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Sums over targets (T,): loss, and beside another model its loss, KL and same tops."""
    found = [Prediction(model.head(h)) for model, h in zip(models, hidden, strict=True)]
    loss = [float(one.loss(targets).sum()) for one in found]
    if len(found) == 1:
        return np.array([loss[0], 0.0, 0.0, 0.0])
    own, other = found
    same = float((own.top == other.top).sum())
    return np.array([*loss, float(other.divergence(own).sum()), same])


def _evaluation(
    said: Sequence[str], written: Sequence[_Written], figures: NDArray[np.float64]
) -> SpeechEvaluation:
    counts, sums = figures[:, 0], figures[:, 1:]
    loss, other, divergence, same = sums.sum(axis=0) / counts.sum()
    found = SpeechEvaluation(
        words=word_errors(said, written[0].texts),
        perplexity=exp(loss),
        perplexity_interval=exp_interval(ratio_interval(sums[:, 0], counts)),
        tokens=int(counts.sum()),
        utterances=len(said),
        transcripts=tuple(written[0].texts),
        incomplete=written[0].incomplete,
    )
    if len(written) == 1:
        return found
    return replace(
        found,
        against_words=word_errors(said, written[1].texts),
        against_perplexity=exp(other),
        kl_divergence=float(divergence),
        kl_interval=ratio_interval(sums[:, 2], counts),
        top1_agreement=float(same),
    )
