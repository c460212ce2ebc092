"""Special tokens of a speech model, as ``generation_config.json`` names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lrc.errors import FormatError, SpecError
from lrc.run.special_tokens import read_optional
from lrc.run.timestamps import Times

FILE = "generation_config.json"


@dataclass(frozen=True)
class SpeechTokens:
    """What a transcript begins and ends with, and what it never has.

    Attributes
    ----------
    start : int
        The first token.
    end : tuple of int
        Tokens that end a transcript.
    forced : tuple of int or None
        Tokens after the first one, unless language and task are asked for; None is a language
        that is to be heard.
    languages, tasks : mapping of str to int
        Tokens of languages, by code such as "en", and of tasks; empty where a model knows one.
    no_timestamps : int or None
        The token that ends the prompt of a transcript without times.
    suppressed, suppressed_first : tuple of int
        Tokens that are never chosen, and that are not chosen first.
    language, task : str or None
        What the files ask for, where nobody else does.
    latest_first : int or None
        See `Times`.
    """

    start: int
    end: tuple[int, ...] = ()
    forced: tuple[int | None, ...] = ()
    languages: Mapping[str, int] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    no_timestamps: int | None = None
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    language: str | None = None
    task: str | None = None
    latest_first: int | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``generation_config.json``, and in older models ``config.json``.

        Raises
        ------
        FormatError
            A file is malformed, or no file says what transcripts begin with.
        """
        values = read_optional(folder / "config.json") | {
            key: value for key, value in read_optional(folder / FILE).items() if value is not None
        }
        if "decoder_start_token_id" not in values:
            raise FormatError(
                f"{folder}: neither {FILE} nor config.json has decoder_start_token_id, which "
                "transcripts begin with; copy the file from the original model"
            )
        no_timestamps = values.get("no_timestamps_token_id")
        latest = values.get("max_initial_timestamp_index")
        language = _text(values, "language")
        return cls(
            start=_id(values["decoder_start_token_id"], "decoder_start_token_id"),
            end=_ids(values, "eos_token_id"),
            forced=_forced(values.get("forced_decoder_ids")),
            languages={_code(k): v for k, v in _named(values, "lang_to_id").items()},
            tasks=_named(values, "task_to_id"),
            no_timestamps=None
            if no_timestamps is None
            else _id(no_timestamps, "no_timestamps_token_id"),
            suppressed=_ids(values, "suppress_tokens"),
            suppressed_first=_ids(values, "begin_suppress_tokens"),
            language=None if language is None else _code(language),
            task=_text(values, "task"),
            latest_first=None if latest is None else _id(latest, "max_initial_timestamp_index"),
        )

    def times(self) -> Times | None:
        """The tokens of times; None where the model has none."""
        if self.no_timestamps is None or not self.end:
            return None
        return Times(self.no_timestamps, min(self.end), self.latest_first)

    def named(self) -> list[int]:
        """Every token that is named, to be checked against a vocabulary."""
        forced = [token for token in self.forced if token is not None]
        last = [] if self.no_timestamps is None else [self.no_timestamps]
        tables = [*self.languages.values(), *self.tasks.values()]
        never = [*self.suppressed, *self.suppressed_first]
        return [self.start, *self.end, *forced, *tables, *last, *never]

    def prompt(
        self, language: str | None = None, task: str | None = None, *, timed: bool = False
    ) -> tuple[int | None, ...]:
        """Tokens that a transcript begins with; None stands for a language that is to be heard.

        Those that the files force where neither is given, there or here. Else the language asked
        for, or the one that is heard, and the task, which is to transcribe unless another is asked
        for. A model of one language has neither. ``timed``: without the token for no times.

        Raises
        ------
        SpecError
            The model does not know the language or the task.
        """
        if self.languages:
            language, task = language or self.language, task or self.task
        forced = self.forced if language is None and task is None else ()
        if not self.languages:
            forced = tuple(token for token in forced if token is not None)
        told: tuple[int | None, ...] = forced
        if not forced and self.languages:
            told = (None,) if language is None else (_known(self.languages, "language", language),)
        elif language is not None:
            _known(self.languages, "language", language)
        if task is not None or (not forced and self.tasks):
            told = (*told, _known(self.tasks, "task", task or "transcribe"))
        last = self.no_timestamps
        told = tuple(token for token in told if token is None or token != last)
        return (self.start, *told) if timed or last is None else (self.start, *told, last)


def _known(table: Mapping[str, int], what: str, name: str) -> int:
    if name not in table:
        known = ", ".join(sorted(table)) or "none, as models of one language do"
        raise SpecError(f"the model knows no {what} {name!r}; it knows {known}")
    return table[name]


def _text(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    if not isinstance(value, str | None):
        raise FormatError(f"{FILE}: {key}={value!r} must be text")
    return value


def _code(language: str) -> str:
    """A language without the brackets that its token has."""
    return language.strip("<|>")


def _forced(value: Any) -> tuple[int | None, ...]:
    """``forced_decoder_ids``: pairs of a place, from 1 on, and a token or null."""
    if value is None:
        return ()
    wrong = FormatError(
        f"forced_decoder_ids={value!r} must be pairs of the places 1, 2, ... and token ids"
    )
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise wrong
    found: list[int | None] = []
    for place, pair in enumerate(value, 1):
        if not isinstance(pair, Sequence) or len(pair) != 2 or pair[0] != place:
            raise wrong
        found.append(None if pair[1] is None else _id(pair[1], "forced_decoder_ids"))
    if None in found[1:]:
        raise wrong
    return tuple(found)


def _ids(values: Mapping[str, Any], key: str) -> tuple[int, ...]:
    given = values.get(key)
    listed = [] if given is None else given if isinstance(given, list) else [given]
    return tuple(_id(value, key) for value in listed)


def _named(values: Mapping[str, Any], key: str) -> dict[str, int]:
    given = values.get(key) or {}
    if not isinstance(given, Mapping):
        raise FormatError(f"{FILE}: {key}={given!r} must be an object of token ids")
    return {str(name): _id(value, key) for name, value in given.items()}


def _id(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FormatError(f"{FILE}: {key} has {value!r} where a token id should be")
    return value
