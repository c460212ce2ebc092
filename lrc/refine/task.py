"""A text to learn a task from: examples, of which some tokens are predicted, and their loss."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.text_file import read_texts
from lrc.errors import CalibrationError
from lrc.refine.divergence import LiveTeacher, log_softmax
from lrc.refine.vjp import Array
from lrc.run.text import Tokenizer

#: A token that is not predicted, among labels.
UNSCORED = -1


@dataclass(frozen=True, eq=False)
class Example:
    """Token ids (T,) of an example, and at each place the next token, or `UNSCORED`."""

    ids: NDArray[np.int32]
    labels: NDArray[np.int32]


def read_examples(path: Path, tokenizer: Tokenizer, longest: int) -> list[Example]:
    """The examples of a file.

    Parameters
    ----------
    path : Path
        ``.jsonl`` with ``{"prompt": ..., "completion": ...}`` a line, of which the completion and
        the end of text are predicted, or ``{"text": ...}``, all of which is; else plain text, a
        line each.
    tokenizer : Tokenizer
    longest : int
        Tokens of an example at most: what is over is cut off.

    Raises
    ------
    CalibrationError
        It has fewer than two examples, or a line that is none.
    """
    end = list(tokenizer.eos_ids[:1])
    found = []
    for prompt, completion in _pairs(path):
        first = tokenizer.encode_prompt(prompt) if prompt else _begin(tokenizer)
        ids = np.array([*first, *tokenizer.encode(completion), *end], np.int32)[: longest + 1]
        labels = ids[1:].copy()
        labels[: max(len(first) - 1, 0)] = UNSCORED
        if (labels != UNSCORED).any():
            found.append(Example(ids[:-1], labels))
    if len(found) < 2:
        raise CalibrationError(
            f"{path} has {len(found)} examples with something to predict; give at least two, one "
            "a line"
        )
    return found


def _begin(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id]


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Prompts, which may be empty, and what follows them."""
    if path.suffix != ".jsonl":
        for text in read_texts(path):
            yield from (("", line) for line in text.splitlines() if line.strip())
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            yield _pair(line, f"{path}, line {number}")


def _pair(line: str, where: str) -> tuple[str, str]:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise CalibrationError(f"{where} is no JSON: {error.msg}") from error
    for keys in (("prompt", "completion"), ("text",)):
        if isinstance(record, dict) and all(isinstance(record.get(key), str) for key in keys):
            return (
                (record["prompt"], record["completion"]) if len(keys) > 1 else ("", record["text"])
            )
    raise CalibrationError(f'{where} needs "prompt" and "completion", or "text", as strings')


def batch_of(examples: Sequence[Example]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Ids and labels (B, T) of examples, the shorter ones filled with what is not predicted."""
    length = max(len(one.ids) for one in examples)
    ids = np.zeros((len(examples), length), np.int32)
    labels = np.full((len(examples), length), UNSCORED, np.int32)
    for row, one in enumerate(examples):
        ids[row, : len(one.ids)], labels[row, : len(one.ids)] = one.ids, one.labels
    return ids, labels


@dataclass(frozen=True)
class LabelLoss:
    """The mean of -log q(label) over predicted tokens, and of KL(teacher || q) at them.

    Attributes
    ----------
    labels : sequence of (B, T) integers
        Of each part of the batch.
    weight : float
        One over all predicted tokens for a mean.
    teacher : LiveTeacher, optional
        Of the same parts, its own weight one.
    kl : float
        What its divergence counts beside the labels.
    """

    labels: Sequence[NDArray[np.int32]]
    weight: float
    teacher: LiveTeacher | None = None
    kl: float = 0.0
    scored: slice = field(default_factory=lambda: slice(None))

    def __call__(self, part: int, rows: slice, logits: Array) -> tuple[float, Array]:
        """The weighed sum over some rows, and its gradient at the logits."""
        labels = self.labels[part].reshape(-1)[rows]
        at = np.flatnonzero(labels != UNSCORED)
        gradient = np.zeros_like(logits)
        if not len(at):
            return 0.0, gradient
        own, lines = logits[at], np.arange(len(at))
        log_q = log_softmax(own.copy())
        value = -float(log_q[lines, labels[at]].sum(dtype=np.float64))
        g = np.exp(log_q, out=log_q)
        g[lines, labels[at]] -= 1
        if self.teacher is not None and self.kl:
            more, of_teacher = self.teacher.at(part, rows.start + at, own)
            value += self.kl * more
            g += of_teacher * g.dtype.type(self.kl)
        gradient[at] = g * g.dtype.type(self.weight)
        return self.weight * value, gradient
