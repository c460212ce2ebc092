"""One file of text, readable from any byte: plain text, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lrc.errors import CalibrationError

#: Endings, in any case, of files with one JSON object a line.
JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")
_TO_JSON_LINES = 'write one {"text": "..."} a line into a .jsonl file'
_UNPACK = "unpack it"
#: Endings of files that are no prose though some would pass for it, and what to do.
_REFUSED = {
    ".json": f"{_TO_JSON_LINES} (or rename it, if it has one object a line)",
    **dict.fromkeys((".parquet", ".arrow", ".feather", ".csv", ".tsv"), _TO_JSON_LINES),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz"), _UNPACK),
    **dict.fromkeys((".pdf", ".docx", ".odt", ".epub"), "export its text into a .txt file"),
}
_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Bytes searched for the end of a line or word; more are taken when there is neither.
_SEARCHED = 4096


class TextFile:
    """A UTF-8 file, with or without a byte order mark; only what is asked for is read.

    Parameters
    ----------
    path
        Ending in ``.jsonl`` (or alike, in any case): an object with a string ``text`` a line;
        lines whose ``text`` is null are left out and counted. Any other: plain text.

    Raises
    ------
    CalibrationError
        There is no such file, or its kind is known not to be text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_lines = path.suffix.lower() in JSON_LINES
        if path.is_dir():
            raise CalibrationError(f"text file {path} is a directory; name the text files in it")
        if not path.is_file():
            raise CalibrationError(f"text file {path} does not exist")
        remedy = _REFUSED.get(path.suffix.lower())
        if remedy is not None:
            raise CalibrationError(
                f"text file {path} is {path.suffix.lower()}, and plain text or .jsonl is "
                f"read; {remedy}"
            )
        try:
            with path.open("rb") as stream:
                head = stream.read(len(_MARK))
        except OSError as error:
            raise CalibrationError(
                f"text file {path} cannot be read: {error.strerror or error}"
            ) from error
        if head.startswith(_WIDE_MARKS):
            raise CalibrationError(f"text file {path} is UTF-16; save it as UTF-8")
        self._first = len(_MARK) if head == _MARK else 0
        self.size = path.stat().st_size
        self._null: set[int] = set()
        self._replaced: dict[int, int] = {}

    @property
    def skipped(self) -> int:
        """Records without text among those read so far."""
        return len(self._null)

    @property
    def replaced(self) -> int:
        """Halves of UTF-16 pairs, for tokenizers U+FFFD, in the records read so far."""
        return sum(self._replaced.values())

    def pieces(self, start: int = 0, most: int | None = None) -> Iterator[tuple[str, int]]:
        """Text from byte ``start`` on, document by document, each with the byte behind it.

        Parameters
        ----------
        start
            Any byte: reading begins at the next line or word of the document that holds it.
        most
            About so many bytes, or characters of a JSON text, a piece; None gives whole
            documents.

        Raises
        ------
        CalibrationError
            What is read is not UTF-8, or a line is no object with a ``text``.
        """
        with self.path.open("rb") as stream:
            yield from (self._records if self._is_lines else self._plain)(stream, start, most)

    def _plain(self, stream: BinaryIO, start: int, most: int | None) -> Iterator[tuple[str, int]]:
        at = self._first
        if start > at:
            stream.seek(start)
            at = start + _begin(stream.read(_SEARCHED))
        while at < self.size:
            stream.seek(at)
            raw = stream.read(-1 if most is None else max(most, _SEARCHED))
            if not raw:
                return
            if at + len(raw) < self.size:
                raw = raw[: _end(raw)]
            text = self._decoded(raw, at).replace("\r\n", "\n").replace("\r", "\n")
            at += len(raw)
            yield text, at

    def _records(self, stream: BinaryIO, start: int, most: int | None) -> Iterator[tuple[str, int]]:
        at = self._line_start(stream, start)
        stream.seek(at)
        # Lines end with a line feed alone: JSON strings may hold U+2028 and the like as they are.
        for raw in stream:
            text = self._text(raw, at) if raw.strip() else None
            if text is not None:
                skipped = max(start - at, 0) / len(raw)
                yield from _parts(text, skipped, most, at, len(raw))
            at += len(raw)

    def _line_start(self, stream: BinaryIO, start: int) -> int:
        """The byte at which the line that holds byte ``start`` begins."""
        end = start
        while end > self._first:
            begin = max(end - (1 << 16), self._first)
            stream.seek(begin)
            found = stream.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return self._first

    def _text(self, raw: bytes, at: int) -> str | None:
        """The ``text`` of the line at byte ``at``; None, counted, where it is null."""
        try:
            record: Any = json.loads(self._decoded(raw, at))
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{self._line(at)}: not JSON ({error})") from error
        if isinstance(record, dict) and record.get("text", "") is None:
            self._null.add(at)
            return None
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            found = f"found {_described(record)}"
            raise CalibrationError(
                f'{self._line(at)}: expected an object with a string "text", {found}; '
                "rename the key, or use plain text in a .txt file"
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            self._replaced[at] = sum("\ud800" <= character <= "\udfff" for character in text)
        return text

    def _decoded(self, raw: bytes, at: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CalibrationError(
                f"{self._line(at + error.start)}: not UTF-8 text ({error.reason}); "
                "save the file as UTF-8"
            ) from error

    def _line(self, at: int) -> str:
        """``FILE, line N`` of a byte; lines are counted only when there is an error to tell."""
        number, left = 1, at
        with self.path.open("rb") as stream:
            while left > 0 and (block := stream.read(min(left, 1 << 20))):
                number += block.count(b"\n")
                left -= len(block)
        return f"{self.path}, line {number}"


def read_texts(path: Path) -> Iterator[str]:
    """Documents of a file: the ``text`` of each line of ``.jsonl``, else the whole file.

    Raises
    ------
    CalibrationError
        If the file cannot be read as UTF-8 text, or a JSON line has no ``text``.
    """
    for text, _ in TextFile(path).pieces():
        yield text


def _begin(raw: bytes) -> int:
    """Where to begin in bytes from the midst of a text: behind a line, else a word or character."""
    for mark in (b"\n", b" "):
        found = raw.find(mark)
        if 0 <= found < len(raw) - 1:
            return found + 1
    return next((i for i, byte in enumerate(raw) if byte & 0xC0 != 0x80), len(raw))


def _end(raw: bytes) -> int:
    """Where to end bytes that go on: behind a line, else before a word or character."""
    line, word = raw.rfind(b"\n") + 1, raw.rfind(b" ")
    if line > 0 or word > 0:
        return line if line > 0 else word
    return next((i for i in range(len(raw) - 1, 0, -1) if raw[i] & 0xC0 != 0x80), len(raw))


def _parts(
    text: str, skipped: float, most: int | None, at: int, length: int
) -> Iterator[tuple[str, int]]:
    """A record's text, without the share before it, in parts; each with the byte behind it.

    The record lies at byte ``at`` and is ``length`` bytes long; characters are taken to be
    spread evenly over them.
    """
    done = 0
    if skipped > 0:
        done = int(len(text) * skipped)
        done += _begin_of_text(text[done : done + _SEARCHED])
    if most is None:
        yield text[done:], at + length
        return
    for begin in range(done, len(text), most):
        end = min(begin + most, len(text))
        yield text[begin:end], at + (length if end == len(text) else length * end // len(text))


def _begin_of_text(text: str) -> int:
    found = next((text.find(mark) for mark in "\n " if text.find(mark) >= 0), -1)
    return found + 1


def _described(record: Any) -> str:
    if not isinstance(record, dict):
        return f"a {type(record).__name__}"
    if "text" in record:
        return f'a "text" that is a {type(record["text"]).__name__}'
    return "the keys " + (", ".join(f'"{key}"' for key in list(record)[:6]) or "of none")
