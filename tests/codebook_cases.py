"""Codebooks that tests run over: the whole table, and what it asks of rows."""

from __future__ import annotations

from lrc.codebooks import CODEBOOKS
from lrc.quant import quantizer

Key = tuple[str, int]

#: Every (name, bits) of the table.
EVERY: list[Key] = [(name, bits) for name, row in CODEBOOKS.items() for bits in row.bits]
#: Those that code rows one by one, and so fit any shape.
ROWWISE = [key for key in EVERY if quantizer(*key, rows=16).block_rows == 1]
#: The same and three trellises: the others differ in the number of states alone.
KINDS = [*ROWWISE, ("trellis8", 2), ("trellis10", 3), ("trellis12", 4)]
