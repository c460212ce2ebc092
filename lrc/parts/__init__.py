"""The parts of a compressed matrix, the whole, and directories of them.

A row of :data:`PARTS` is a kind of part: everything else asks the part.
"""

from __future__ import annotations

from collections.abc import Sequence

from lrc.parts.base import Part, PartRecord
from lrc.parts.codes import Codes
from lrc.parts.kept import Kept
from lrc.parts.low_rank import LowRank
from lrc.parts.on_basis import OnBasis

#: Every kind of part, by the name that records have.
PARTS: dict[str, type[Part]] = {
    "codes": Codes,
    "low_rank": LowRank,
    "on_basis": OnBasis,
    "kept": Kept,
}


def describe(parts: Sequence[PartRecord]) -> str:
    """A matrix of these parts in a few words.

    Examples
    --------
    >>> from lrc.parts.codes import codes_record
    >>> from lrc.parts.low_rank import low_rank_record
    >>> describe([codes_record("e8p", 2, 0, row_scales=False), low_rank_record(8, 4)])
    'e8p 2 + rank 8'
    """
    return " + ".join(PARTS[part["kind"]].label(part) for part in parts) or "zero"


def are_compiled(parts: Sequence[PartRecord]) -> bool:
    """Whether the decode engine reads a matrix of these parts: else it runs on NumPy blocks."""
    places = [PARTS[part["kind"]].place(part) for part in parts]
    return None not in places and len(set(places)) == len(places)
