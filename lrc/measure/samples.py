"""Answers of a compressed model and of its original, side by side: for people, not for judging."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrc.base.progress import SILENT, Progress
from lrc.base.record import Record
from lrc.errors import LrcError
from lrc.run.sampler import Sampler

if TYPE_CHECKING:
    from lrc.run.load import LoadedModel

#: Fixed, so that reports can be laid side by side: to explain, to list, to reckon.
PROMPTS = (
    "Why is the sky blue?",
    "Name three things that are needed to bake bread.",
    "A train leaves at 9:40 and takes 2 hours and 35 minutes. When does it arrive?",
)
#: Most tokens of an answer.
TOKENS = 48


@dataclass(frozen=True)
class Sample(Record):
    """What two models say to the same prompt, the likeliest token each time.

    ``model`` is the compressed one's `lrc.measure.quality.model_digest`, ``against`` the other's
    name. ``chat`` is whether the prompt went through the chat template; else both go on from it.
    """

    model: str
    against: str
    prompt: str
    chat: bool
    original: str
    compressed: str


def samples(
    compressed: LoadedModel,
    original: LoadedModel,
    *,
    model: str,
    against: str,
    tokens: int = TOKENS,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Iterator[Sample]:
    """What both say to each of `PROMPTS`.

    Parameters
    ----------
    compressed, original : LoadedModel
    model, against : str
        As of :class:`Sample`.
    tokens : int
        Most tokens of an answer.
    threads : int or None
        Never changes an answer.

    Notes
    -----
    The original's weights are looked at once a token.
    """
    with progress.bar("answers", 2 * len(PROMPTS), "answer") as advance:
        for prompt in PROMPTS:
            chat = _takes_chats(compressed, prompt) and _takes_chats(original, prompt)
            said = []
            for loaded in (original, compressed):
                given = [{"role": "user", "content": prompt}] if chat else prompt
                most = max(1, min(tokens, loaded.model.context - len(loaded.prompt_ids(given))))
                pieces = loaded.generate(given, most, Sampler(temperature=0.0), threads=threads)
                said.append("".join(pieces))
                advance()
            yield Sample(model, against, prompt, chat, *said)


def _takes_chats(loaded: LoadedModel, prompt: str) -> bool:
    """Whether the model has a template that can be used here, and takes a lone question."""
    if not loaded.tokenizer.chat_templates or importlib.util.find_spec("jinja2") is None:
        return False
    try:
        loaded.prompt_ids([{"role": "user", "content": prompt}])
    except LrcError:
        return False
    return True
