"""Codebooks that tests run over: the whole table, and what it asks of rows."""

from __future__ import annotations

from lrc.codebooks import CODEBOOKS
from lrc.quant import quantizer
from lrc.quant.blockwise import has_own_scales

Key = tuple[str, int]

#: Every (name, bits) of the table.
EVERY: list[Key] = [(name, bits) for name, row in CODEBOOKS.items() for bits in row.bits]
#: Those that code rows one by one, and so fit any shape.
ROWWISE = [key for key in EVERY if quantizer(*key, rows=32).block_rows == 1]
#: The same and some trellises: the others differ in the number of states alone.
KINDS = [
    *ROWWISE, ("trellis8", 2), ("trellis10", 3), ("trellis12", 4),
    ("shuffle10", 2), ("shuffle12", 2), ("shuffle12", 3), ("shuffle12", 4),
]  # fmt: skip
#: Those of them whose scales are the matrix's, not the codes' own.
SCALED = [key for key in ROWWISE if not has_own_scales(quantizer(*key))]
#: The widths of these that kernels tell apart.
FEW = [key for key in SCALED if key[1] in (2, 3, 4, 8)]

#: One of each file in ``lrc.codebooks``, at its narrowest.
MODULES: list[Key] = [
    *{row.module: (name, row.bits[0]) for name, row in reversed(CODEBOOKS.items())}.values()
]


def may_group(name: str, size: int) -> int:
    """``size`` where the codebook ``name`` has groups of columns, else 0."""
    return size if name in CODEBOOKS and CODEBOOKS[name].grouped else 0
