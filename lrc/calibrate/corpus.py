"""Token windows drawn over files, and what a report says of windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.text_file import TextFile
from lrc.errors import CalibrationError, SpecError
from lrc.run.text import TokenIds, Tokenizer
from lrc.spec import CalibrationSpec

#: Tokens of a window where the model's context allows it.
WINDOW = 512
#: Where windows came from that are no text's that is stored.
GIVEN = "given by the caller"
#: Bytes read for a token that is wanted; more a token are rare, and cost another read.
_BYTES_A_TOKEN = 16
#: Texts up to so many times what is read of longer ones are tokenized whole.
_WHOLE = 2


@dataclass(frozen=True, eq=False)
class CalibrationText:
    """Token windows, integers (N, T), and where they came from.

    ``record`` is what a report says of it: ``source``, ``windows``, ``window_tokens``, and of
    each file its ``bytes``, the ``tokens`` of it that are in a window, and in how many
    ``windows`` they are. ``warnings`` are what a user should know.
    """

    windows: TokenIds
    record: dict[str, Any]
    warnings: tuple[str, ...] = ()


def file_windows(
    names: Sequence[str], tokenizer: Tokenizer, count: int, seqlen: int, seed: int
) -> CalibrationText:
    """Draw ``count`` token windows of ``seqlen`` from files.

    The files count as one text, in the order given. It is cut into as many equal stretches as
    windows are wanted, and one window is taken at a random place of each, so that every file
    has its share by size; a window goes on over the end of a document or a file. Of a long text
    only what surrounds those places is read. No token is in two windows.

    Raises
    ------
    CalibrationError
        If the files hold less than one window, or something that is no text.
    """
    files = [TextFile(Path(name)) for name in names]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    draw = _Draw(_Corpus(files, tokenizer), count, seqlen, rng)
    drawn = draw.windows()
    if not drawn:
        raise CalibrationError(_too_little(draw.seen, seqlen, names))
    ids = np.stack([stretch.ids for stretch in drawn])
    return CalibrationText(
        ids,
        described(ids, "files") | {"files": _uses(files, [stretch.owners for stretch in drawn])},
        tuple(_warnings(files, drawn, count, seqlen)),
    )


def window_length(spec: CalibrationSpec, context: int) -> int:
    """Tokens of a window for a model with a context of so many positions.

    Raises
    ------
    SpecError
        The windows asked for are longer than the context.
    """
    if spec.seqlen == "auto":
        return min(WINDOW, context)
    if spec.seqlen > context:
        raise SpecError(
            f"seqlen={spec.seqlen} exceeds the model's context of {context}; give at most that"
        )
    return spec.seqlen


def described(windows: NDArray[np.integer], source: str) -> dict[str, Any]:
    """The record of windows (N, T) that came from ``source``."""
    return {
        "source": source,
        "windows": int(windows.shape[0]),
        "window_tokens": int(windows.shape[1]),
    }


@dataclass(frozen=True, eq=False)
class _Stretch:
    """Consecutive tokens (T,), the number of the file of each, and the place behind them."""

    ids: TokenIds
    owners: NDArray[np.int32]
    end: int


class _Corpus:
    """Files as one text; a place in it is a byte of all of them, one after the other."""

    def __init__(self, files: Sequence[TextFile], tokenizer: Tokenizer) -> None:
        self._files, self._tokenizer = files, tokenizer
        self._starts = [0, *itertools.accumulate(file.size for file in files)]
        self.size = self._starts[-1]

    def read(self, place: int, wanted: int | None, most: int | None) -> _Stretch:
        """The first ``wanted`` tokens from a place on (all when None), fewer at the end.

        ``most`` is as for `TextFile.pieces`.
        """
        ids, owners = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        seen = 0
        for text, owner, end in self._pieces(place, most):
            found = self._tokenizer.encode(text)
            found = found if wanted is None else found[: wanted - seen]
            ids.append(found)
            owners.append(np.full(len(found), owner, np.int32))
            seen, place = seen + len(found), end
            if seen == wanted:
                break
        return _Stretch(np.concatenate(ids), np.concatenate(owners), place)

    def _pieces(self, place: int, most: int | None) -> Iterator[tuple[str, int, int]]:
        for number, file in enumerate(self._files):
            start = self._starts[number]
            if place < start + file.size:
                for text, end in file.pieces(max(place - start, 0), most):
                    yield text, number, start + end


@dataclass
class _Draw:
    """Windows at seeded places of a corpus; ``seen`` counts the tokens of the last stretch."""

    corpus: _Corpus
    count: int
    seqlen: int
    rng: np.random.Generator
    seen: int = 0

    def windows(self) -> list[_Stretch]:
        """Windows in the order of the text; fewer than ``count`` where it ends."""
        surroundings = _BYTES_A_TOKEN * self.seqlen
        if self.corpus.size <= _WHOLE * self.count * surroundings:
            return self._of_whole()
        found: list[_Stretch] = []
        free = 0
        for place in _spread(self.corpus.size - surroundings, self.count, self.rng):
            stretch = self.corpus.read(max(place, free), self.seqlen, surroundings)
            self.seen = len(stretch.ids)
            if self.seen < self.seqlen:
                break
            found.append(stretch)
            free = stretch.end
        return found

    def _of_whole(self) -> list[_Stretch]:
        """Windows of a text that is tokenized whole and cut into consecutive ones."""
        text = self.corpus.read(0, None, None)
        self.seen = len(text.ids)
        available = self.seen // self.seqlen
        chosen = _spread(available, min(self.count, available), self.rng)
        cuts = (slice(i * self.seqlen, (i + 1) * self.seqlen) for i in chosen)
        return [_Stretch(text.ids[cut], text.owners[cut], text.end) for cut in cuts]


def _spread(length: int, count: int, rng: np.random.Generator) -> list[int]:
    """One number from each of ``count`` equal parts of ``range(length)``, ascending."""
    edges = [length * i // count for i in range(count + 1)] if count else []
    return [int(rng.integers(low, high)) for low, high in itertools.pairwise(edges)]


def _uses(files: Sequence[TextFile], owners: Sequence[NDArray[np.int32]]) -> list[dict[str, Any]]:
    """What was taken from each file; counts of records left out are of those that were read."""
    return [
        {
            "file": str(file.path),
            "bytes": file.size,
            "tokens": sum(int((own == number).sum()) for own in owners),
            "windows": sum(bool((own == number).any()) for own in owners),
            "skipped_records": file.skipped,
            "replaced_characters": file.replaced,
        }
        for number, file in enumerate(files)
    ]


def _warnings(
    files: Sequence[TextFile], drawn: Sequence[_Stretch], asked: int, seqlen: int
) -> Iterator[str]:
    if len(drawn) < asked:
        yield f"calibration text gave {len(drawn)} windows of {seqlen}, not {asked}"
    for number, file in enumerate(files):
        if not any((stretch.owners == number).any() for stretch in drawn):
            yield f"no token of text file {file.path} is in a window; more windows reach it"
        if file.skipped:
            yield f'{file.skipped} records of {file.path} whose "text" is null were left out'
        if file.replaced:
            yield f"{file.replaced} halves of UTF-16 pairs in {file.path} were read as U+FFFD"


def _too_little(seen: int, seqlen: int, files: Sequence[str]) -> str:
    if seen == 0:
        return f"no text in {', '.join(files)}; give a file with text"
    return (
        f"the text has {seen} tokens and one window needs {seqlen}; "
        "give more text or a shorter window"
    )


def check_files(names: Sequence[str]) -> None:
    """Refuse files that cannot be calibrated on, as far as their first bytes tell.

    Raises
    ------
    CalibrationError
        Naming the file.
    """
    for name in names:
        TextFile(Path(name))
