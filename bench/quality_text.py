"""The texts of a measurement, and proof that none was seen in calibration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lrc.base.text_file import read_texts
from lrc.cli.sample_text import help_topics_text

#: Words in a row that two independent texts do not share.
WORDS = 50
#: Words by which a passage is looked up.
_HEAD = 4


class RefusedError(Exception):
    """The texts given would make figures that mean nothing."""


def read(path: Path) -> str:
    """All of a text or JSONL file."""
    return "\n".join(read_texts(path))


def second_text(path: Path | None) -> tuple[str, str]:
    """Name and text of the second domain: a file, or the topics of Python's help()."""
    return ("Python's help", help_topics_text()) if path is None else (path.name, read(path))


def shared(seen: str, judged: str, words: int = WORDS) -> list[str]:
    """Passages of ``judged`` that ``seen`` holds, spacing aside.

    ``judged`` is cut into passages of ``words`` words, which are looked for at every word of
    ``seen``; so any common run of twice as many words is found.
    """
    cut = list(_passages(judged.split(), words))
    head = min(_HEAD, *map(len, cut)) if cut else 1
    passages: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for passage in cut:
        passages.setdefault(passage[:head], set()).add(passage)
    found: dict[tuple[str, ...], None] = {}
    text = seen.split()
    for start in range(len(text)):
        for passage in passages.get(tuple(text[start : start + head]), ()):
            if tuple(text[start : start + len(passage)]) == passage:
                found[passage] = None
    return [" ".join(passage) for passage in found]


def check_apart(calibration: Iterable[Path], texts: Iterable[tuple[str, str]]) -> None:
    """Refuse texts that are, or hold passages of, the calibration text.

    Raises
    ------
    RefusedError
        Names the text, and begins the first passage in common.
    """
    for path in calibration:
        seen = read(path)
        for name, judged in texts:
            common = shared(seen, judged)
            if common:
                raise RefusedError(
                    f"{len(common)} passages of the text {name} are in the calibration file "
                    f"{path.name}, the first: {common[0][:60]!r}...; "
                    "measure on text that was not calibrated on"
                )


def _passages(words: list[str], size: int) -> Iterable[tuple[str, ...]]:
    """Consecutive runs of ``size`` words; the whole where it is shorter."""
    last = max(len(words) - size, 0)
    if words:
        yield from (tuple(words[i : i + size]) for i in range(0, last + 1, size))
