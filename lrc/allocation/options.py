"""What a matrix may become, what that costs in bytes and how much error it is expected to leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lrc.allocation.sizes import matrix_specs
from lrc.allocation.solve import Choice, lower_hull
from lrc.codebooks import CODEBOOKS, at_width, plain
from lrc.errors import SpecError
from lrc.parts.layout import stored_bytes
from lrc.spec import DecomposeSpec, LowRankSpec, MatrixSpec, QuantSpec

#: Widths that are surveyed and chosen from.
WIDTHS = (2, 3, 4)
#: Ranks that an automatic rank may become, where they cost less than `MOST_RANK_BITS` a weight.
RANKS = (0, 8, 16, 32, 64)
FACTOR_BITS = (3, 4, 6)
MOST_RANK_BITS = 0.5
#: Share of the captured energy that rounding one factor gives back: the squared error of
#: Lloyd-Max levels on a Gaussian source. What rounding the other loses, the first makes good.
FACTOR_LOSS = {2: 0.1175, 3: 0.0345, 4: 0.0095, 5: 0.0025, 6: 0.00066, 7: 0.00017, 8: 0.00004}

#: Squared relative error by width, then by rank (with exact factors).
Curves = Mapping[int, Mapping[int, float]]


class Candidate(NamedTuple):
    """What the survey keeps of an option: width of Q and rank of its correction."""

    bits: int
    rank: int


@dataclass(frozen=True)
class Option:
    """One thing that a matrix may become; ``error`` is the squared relative error expected."""

    quant: QuantSpec
    low_rank: LowRankSpec
    nbytes: int
    error: float

    @property
    def candidate(self) -> Candidate:
        """Its entry among the survey's results."""
        assert isinstance(self.low_rank.rank, int)
        return Candidate(self.quant.bits, self.low_rank.rank)

    def matrix_spec(self, reason: str) -> MatrixSpec:
        """The parameters that make it happen."""
        return MatrixSpec(self.quant, self.low_rank, reason)

    def __str__(self) -> str:
        """Width and, where there is one, rank.

        Examples
        --------
        >>> str(Option(QuantSpec(), LowRankSpec(8), 100, 0.1))
        '2 bits, rank 8'
        """
        rank = f", rank {self.low_rank.rank}" if self.low_rank.rank else ""
        return f"{self.quant.bits} bits{rank}"


def check_allocatable(spec: DecomposeSpec) -> None:
    """Refuse parameters that leave nothing to choose.

    Raises
    ------
    SpecError
        If the codebook has no family of widths, or the recipe stores no Q.
    """
    if not all(_gaussian_error(at_width(spec.quant.codebook, bits), bits) for bits in WIDTHS):
        known = [name for name, row in CODEBOOKS.items() if row.gaussian_error]
        raise SpecError(
            f"a budget needs a codebook of 2, 3 and 4 bits, not {spec.quant.codebook}; "
            f"use one of {', '.join(known)}"
        )
    if spec.recipe in ("low-rank", "corrected") or spec.low_rank.keep:
        raise SpecError(
            f"recipe {spec.recipe} has its rank and its bits given, so there is nothing to choose "
            "for a budget; use caldera, ldlq or round-to-nearest, without --keep"
        )


def codebook_of(spec: DecomposeSpec, bits: int, shape: tuple[int, ...]) -> QuantSpec:
    """The codebook of ``bits`` in the family that ``spec`` names, fit for ``shape`` (m, n)."""
    m, n = shape
    return QuantSpec(at_width(spec.quant.codebook, bits), bits).for_shape(m, n)[0]


def error_ratio(quant: QuantSpec) -> float:
    """Squared error of ``quant`` over that of the plain codebook of its width, which is surveyed.

    Both on a Gaussian source.
    """
    surveyed = _gaussian_error(plain(quant.bits), quant.bits)
    return _gaussian_error(quant.codebook, quant.bits) / surveyed


def _gaussian_error(codebook: str, bits: int) -> float:
    return CODEBOOKS[codebook].gaussian_error.get(bits, 0.0)


def candidate_ranks(spec: DecomposeSpec, shape: tuple[int, int]) -> tuple[int, ...]:
    """Ranks to consider for a matrix of ``shape`` (m, n), ascending."""
    m, n = shape
    if spec.recipe != "caldera":
        return (0,)
    if isinstance(spec.low_rank.rank, int):
        return (min(spec.low_rank.rank, m, n),)
    per_rank = 4 * (m + n) / (m * n)
    return tuple(r for r in RANKS if r * per_rank < MOST_RANK_BITS and r <= min(m, n) // 2)


def matrix_options(
    name: str, shape: tuple[int, int], curves: Curves, spec: DecomposeSpec
) -> tuple[Option, ...]:
    """Options worth choosing from, cheapest first: the lower convex hull of error over bytes.

    Parameters
    ----------
    name : str
    shape : (m, n)
    curves : mapping
        Squared relative errors of the lattices, from the survey.
    spec : DecomposeSpec
        Codebook family, recipe, rotation, and a rank if it is not to be chosen.
    """
    found = []
    for bits, curve in curves.items():
        quant = codebook_of(spec, bits, shape)
        for rank in candidate_ranks(spec, shape):
            for factor_bits in _factor_bits(spec, rank):
                low_rank = dataclasses.replace(spec.low_rank, rank=rank, factor_bits=factor_bits)
                own = dataclasses.replace(spec, quant=quant, low_rank=low_rank)
                left = curve[rank]
                lost = FACTOR_LOSS.get(factor_bits, 0.0) * (curve[0] - left)
                nbytes = stored_bytes(matrix_specs(name, shape, own))
                found.append(Option(quant, low_rank, nbytes, error_ratio(quant) * (left + lost)))
    hull = lower_hull([Choice(option.nbytes, option.error) for option in found])
    return tuple(found[i] for i in hull)


def _factor_bits(spec: DecomposeSpec, rank: int) -> tuple[int, ...]:
    own = spec.low_rank.factor_bits
    return tuple(sorted({*FACTOR_BITS, own})) if rank and spec.low_rank.rank == "auto" else (own,)
