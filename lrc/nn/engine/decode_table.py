"""The table of one token in the making: its rows, and the buffers that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lrc.nn.engine.rows import Row
from lrc_kernels.cpu.engine import table, token


@dataclass(frozen=True)
class Buffer:
    """Room for f32 (width,): one for all threads (``shared``), or one for each."""

    width: int
    shared: bool


class DecodeTable:
    """A barrier stands where a thread needs what another wrote.

    One also stands before one thread writes what another may still be reading.

    Parameters
    ----------
    widths : mapping
        Of every value, by its name; the widest, where a name is used again.

    Attributes
    ----------
    buffers
        Those that the rows name, from number `token.BUFFERS` on.
    rows, numbers
        Integers and floats of the rows.
    places
        The buffer where each value is now.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        self.buffers: list[Buffer] = []
        self.rows: list[list[int]] = []
        self.numbers: list[list[float]] = []
        self.places: dict[str, int] = {}
        self._widths = widths
        self._own: dict[tuple[str, bool], int] = {}
        self._read: set[int] = set()
        self._written: set[int] = set()
        self._skips: list[tuple[int, set[int], set[int]]] = []

    def buffer(self, width: int, *, shared: bool = False) -> int:
        """Number of a new buffer."""
        self.buffers.append(Buffer(width, shared))
        return token.BUFFERS + len(self.buffers) - 1

    def is_shared(self, number: int) -> bool:
        """Whether all threads have the same buffer ``number``."""
        return self.buffers[number - token.BUFFERS].shared

    def add(
        self, row: Row, reads: Collection[int], writes: Collection[int], **operands: int
    ) -> None:
        """Add a row that reads and writes these buffers, each thread its part of shared ones.

        ``operands``: buffers by their columns.
        """
        reads = {b for b in reads if self.is_shared(b)}
        writes = {b for b in writes if self.is_shared(b)}
        if self._written & (reads | writes) or self._read & writes:
            self._append(Row(table.BARRIER))
            self._read, self._written = set(), set()
        self._append(row, **operands)
        self._read |= reads
        self._written |= writes

    def begin_skip(self, row: Row, source: int) -> None:
        """Add a row that may leave out those up to `end_skip`, for all threads or for none.

        ``source``: the buffer that tells, which each thread has for itself.
        """
        self._skips.append((len(self.rows), set(self._read), set(self._written)))
        self._append(row, source=source)

    def end_skip(self) -> None:
        """What follows is done in any case, after what was left out or not."""
        start, read, written = self._skips.pop()
        self.rows[start][table.COUNT] = len(self.rows) - start - 1
        self._read |= read
        self._written |= written

    def mine(self, name: str, width: int, *, fresh: bool = False) -> int:
        """Each thread's own buffer of a value, which is copied there unless it is ``fresh``."""
        own = self._buffer_of(name, shared=False)
        if not fresh and self.places[name] != own:
            source = self.places[name]
            row = Row(table.COPY, columns={"count": 1, "width": width})
            self.add(row, (source,), (own,), source=source, target=own)
        self.places[name] = own
        return own

    def ours(self, name: str) -> int:
        """The buffer of a value of which each thread writes a part."""
        self.places[name] = self._buffer_of(name, shared=True)
        return self.places[name]

    def _buffer_of(self, name: str, *, shared: bool) -> int:
        if (name, shared) not in self._own:
            self._own[name, shared] = self.buffer(self._widths[name], shared=shared)
        return self._own[name, shared]

    def _append(self, row: Row, **operands: int) -> None:
        self.rows.append(row.integers(**operands))
        self.numbers.append(row.floats())
