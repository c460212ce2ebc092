"""L R whose R is another matrix's: neighbouring blocks have one basis R, stored once.

A record has ``rank``, ``bits`` (2 to 8, or 16) and ``basis``, the name of the matrix whose part of
the kind "low_rank" R is: the first of that kind there, of the same rank, bits and inputs. That
matrix counts the bits of R, this one those of its coefficients L alone.

================== ============ =================== =======================================
tensor             dtype        shape               meaning
================== ============ =================== =======================================
coefficients       U8, F16      (r, ceil(m bits/8)) L^T, Lloyd-Max codes; F16 (r, m) at 16 bits
coefficient_scales F16          (r,)                one a component; empty at 16 bits
================== ============ =================== =======================================
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from lrc.parts.base import Borrowed, PartRecord, Shape, Specs, Tensors
from lrc.parts.fields import TEXT, Fields
from lrc.parts.low_rank import Factor, LowRank, low_rank_record


def on_basis_record(rank: int, bits: int, basis: str) -> dict[str, Any]:
    """The record of a part that need not exist yet."""
    return low_rank_record(rank, bits) | {"kind": OnBasis.kind, "basis": basis}


@dataclass(frozen=True)
class OnBasis(LowRank):
    """L R = gain * left^T right, where ``right`` is stored with the matrix ``basis``.

    Attributes
    ----------
    basis
        Name of the matrix whose R this is.
    """

    kind: ClassVar[str] = "on_basis"
    fields: ClassVar[Fields] = {**LowRank.fields, "basis": TEXT}

    basis: str = dataclasses.field(kw_only=True)

    # Storage

    @classmethod
    def layout(cls, record: PartRecord, shape: Shape) -> Specs:
        """Words and scales of L."""
        both = LowRank.layout(record, shape)
        return {"coefficients": both["left"], "coefficient_scales": both["left_scales"]}

    @classmethod
    def borrowed(cls, record: PartRecord, shape: Shape) -> Borrowed:
        """Words and scales of R, which lie with the other matrix."""
        both, basis = LowRank.layout(record, shape), record["basis"]
        return {side: (f"{basis}.{side}", both[side]) for side in ("right", "right_scales")}

    @classmethod
    def read(cls, record: PartRecord, shape: Shape, tensors: Tensors) -> OnBasis:
        """L on the words that are stored here, R on those of the other matrix."""
        bits, (m, n) = record["bits"], shape
        return cls(
            Factor(bits, m, tensors["coefficients"], tensors["coefficient_scales"]),
            Factor(bits, n, tensors["right"], tensors["right_scales"]),
            basis=record["basis"],
        )

    @classmethod
    def label(cls, record: PartRecord) -> str:
        """The rank."""
        return f"rank {record['rank']} on a shared basis"

    @classmethod
    def holds(cls, tensor: str) -> str:
        """What a tensor holds, for tables of sizes."""
        return "low rank"

    def record(self) -> dict[str, Any]:
        """Rank, bits and whose basis it is."""
        return on_basis_record(self.rank, self.right.bits, self.basis)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Words and scales of L."""
        return {"coefficients": self.left.words, "coefficient_scales": self.left.scales}

    # Engines

    @classmethod
    def place(cls, record: PartRecord) -> str | None:
        """That of factors, which it is to an engine."""
        return LowRank.kind
