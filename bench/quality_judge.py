"""Figures of models against one original, on the same windows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from quality_text import RefusedError

import lrc
from lrc.measure.evaluate import comparison, evaluation
from lrc.measure.scoring import Scores, score_windows
from lrc.measure.storage import storage

Record = dict[str, Any]
_WINDOWS = ("window_loss", "window_kl")
_FIGURES = (
    "perplexity", "perplexity_stderr", "perplexity_ratio", "perplexity_ratio_interval",
    "kl_divergence", "kl_stderr", "kl_interval", "top1_agreement", "tokens",
)  # fmt: skip


class Judge:
    """Scores models on the windows of some texts against the model they were made from.

    Parameters
    ----------
    original : Path
    texts : (name, text) pairs
        The first is the one whose figures a record carries itself.
    windows : int sequence
        How many windows from the start of the first text, each a set of figures; the other
        texts have as many as the first.
    ctx : int
    threads : int or None

    Raises
    ------
    RefusedError
        The first text has too few windows.
    """

    def __init__(
        self,
        original: Path,
        texts: list[tuple[str, str]],
        windows: list[int],
        ctx: int,
        threads: int | None = None,
    ) -> None:
        self.original = lrc.load(original)
        self.threads = threads
        counts = [max(windows), *[windows[0]] * (len(texts) - 1)]
        self.texts = [
            (name, lrc.text_windows(self.original.tokenizer, text, ctx, count))
            for (name, text), count in zip(texts, counts, strict=True)
        ]
        self.windows = windows
        name, found = self.texts[0]
        if len(found) < max(windows):
            raise RefusedError(f"the text {name} has {len(found)} windows, not {max(windows)}")

    def itself(self) -> Record:
        """Record of the original: size and perplexities."""
        return self._record(self.original.model, None) | storage(self.original.source)

    def __call__(self, path: Path) -> Record:
        """Record of the model at ``path``, decoded from its bytes."""
        loaded = lrc.load(path)
        return self._record(loaded.model, self.original.model) | storage(loaded.source)

    def _record(self, model: Any, against: Any) -> Record:
        sets: list[Record] = []
        first: Scores | None = None
        for name, ids in self.texts:
            (scores,) = score_windows([model], ids, against=against, threads=self.threads)
            counts = [len(ids)] if first else self.windows
            first = first or scores
            sets += [_figures(name, scores.first(count)) for count in counts]
        assert first is not None
        divergence = first.divergence
        return {
            **sets[0],
            "more": sets[1:],
            "window_loss": first.loss.mean(axis=1).tolist(),
            "window_kl": None if divergence is None else divergence.mean(axis=1).tolist(),
        }


def to_base(record: Record, base: Record) -> Record:
    """Paired differences of two records of the same windows, base subtracted."""
    found = comparison(_means(record), _means(base))
    kept = dataclasses.asdict(found)
    return {key: value for key, value in kept.items() if key.startswith(("kl", "perplexity_"))}


def _figures(name: str, scores: Scores) -> Record:
    found = evaluation(scores)
    figures = {key: getattr(found, key) for key in _FIGURES}
    return {"text": name, "windows": len(scores.loss), **figures}


def _means(record: Record) -> Scores:
    """Scores with one entry a window of the record's own figures: its mean."""
    loss, kl = (np.array(record[key])[: record["windows"], None] for key in _WINDOWS)
    return Scores(loss, divergence=kl)
