"""A row of the compiled loops' table while its operands have names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lrc_kernels.cpu.engine import table


@dataclass(frozen=True)
class Row:
    """A row of `lrc_kernels.cpu.engine.table`.

    Attributes
    ----------
    code : int
        What it does.
    source, target : str
        Names of values, "" for none.
    changes : bool
        What is at the target is read, too.
    numbers : tuple of float
        The first ones of `table.NUMBERS`.
    columns : mapping
        Its other columns, by their names in lower case.
    operands : mapping
        Names of further values that it reads, by their columns.
    """

    code: int
    source: str = ""
    target: str = ""
    changes: bool = False
    numbers: tuple[float, ...] = ()
    columns: Mapping[str, int] = field(default_factory=dict)
    operands: Mapping[str, str] = field(default_factory=dict)

    def integers(self, **operands: int) -> list[int]:
        """The row, with the numbers of its operands' buffers by name of the column."""
        return table.row(self.code, **self.columns, **operands)

    def floats(self) -> list[float]:
        """Its floats, zeros behind those that are given."""
        return [*self.numbers, *[0.0] * (table.NUMBERS - len(self.numbers))]
