"""How one matrix is decomposed: what codes Q, which rank L R has, and by which method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Self

from lrc import codebooks
from lrc.base.record import Record, require
from lrc.errors import SpecError

ROTATIONS = ("none", "hadamard")
STARTS = ("auto", "error", "weights", "inputs")
DEVICES = ("cpu", "cuda")
RECIPES = ("caldera", "ldlq", "round-to-nearest", "low-rank", "corrected")
#: Statistics of the model's gradients at each weight, of one's columns or of columns and rows.
FISHER = ("fisher", "fisher-two-sided")
STATISTICS = ("moment", "rms", "magnitude", "magnitude-squared", "identity", *FISHER)
#: How ranks are shared out among matrices: see `lrc.allocation.rank_rules`.
RANKS = ("equal", "threshold", "loss-of-kind", "last-blocks", "least-loss")
#: Those whose Q is rounded with feedback in the metric of the inputs, rotated or not.
WITH_FEEDBACK = ("caldera", "ldlq")
#: How matrices with only narrow values between them are cut: see `lrc.pipeline.pairs`.
APART, MODEGPT, FLAT_LLM = PAIRS = ("apart", "modegpt", "flat-llm")
ROUNDINGS = ("feedback", "nearest")
FIRSTS = ("codes", "factors")


@dataclass(frozen=True)
class QuantSpec(Record):
    """How Q is coded: codebook, bits a weight and weights that share a scale (0: a whole row)."""

    codebook: str = codebooks.DEFAULT
    bits: int = 2
    group_size: int = 0

    def check(self) -> None:
        """Refuse values that are not allowed."""
        row = codebooks.CODEBOOKS.get(self.codebook)
        if row is None:
            known = ", ".join(codebooks.CODEBOOKS)
            raise SpecError(f"codebook {self.codebook!r} is unknown; use one of {known}")
        require(
            self.bits in row.bits,
            f"bits={self.bits} is out of range for codebook {self.codebook}; "
            f"use {codebooks.widths(row.bits)}",
        )
        require(self.group_size >= 0, f"group_size={self.group_size} must be 0 or positive")
        require(
            row.grouped or self.group_size == 0,
            f"codebook {self.codebook} has one scale a matrix; leave group_size at 0",
        )

    @classmethod
    def for_bits(cls, bits: int) -> Self:
        """The default codebook of a width, or what stands for it there."""
        return cls(codebooks.at_width(codebooks.DEFAULT, bits), bits)

    @classmethod
    def plain(cls, bits: int) -> Self:
        """The codebook of a width that fits any shape."""
        return cls(codebooks.plain(bits), bits)

    def for_shape(self, m: int, n: int) -> tuple[Self, tuple[str, ...]]:
        """The same, or what stands for it and a note where it does not fit an m x n matrix."""
        name, bits, why = codebooks.fitting(self.codebook, self.bits, (m, n))
        if why is None:
            return self, ()
        note = f"codebook {self.codebook} {why}: {name} instead"
        return type(self)(name, bits), (note,)


@dataclass(frozen=True)
class LowRankSpec(Record):
    """Rank of L R (``"auto"``: the rank whose error pays for its bits) and bits of its factors.

    ``start`` is what L R is first fitted to: the ``"error"`` of Q (CALDERA), the ``"weights"`` in
    the metric of H (SRR, arXiv 2602.02001), the weights on the leading directions of the
    ``"inputs"`` alone (after ODLRI, arXiv 2506.02077), or the best of the three after one round
    (``"auto"``). ``keep``, where it is not 0, is the part of a matrix's m n numbers that L and R
    have together, and decides the rank instead; at 1 a matrix of a model stays dense, in 16 bits.
    """

    rank: int | Literal["auto"] = "auto"
    factor_bits: int = 4
    start: str = "auto"
    keep: float = 0.0

    def check(self) -> None:
        """Refuse values that are not allowed."""
        require(
            self.rank == "auto" or self.rank >= 0,
            f"rank={self.rank!r} must be 'auto' or an integer >= 0",
        )
        require(
            self.factor_bits in (2, 3, 4, 5, 6, 7, 8, 16),
            f"factor_bits={self.factor_bits} must be 2 to 8, or 16",
        )
        require(
            self.start in STARTS,
            f"start {self.start!r} is unknown; use one of {', '.join(STARTS)}",
        )
        require(0 <= self.keep <= 1, f"keep={self.keep} must lie in [0, 1]")

    def rank_on_basis(self, rows: int, shape: tuple[int, ...]) -> int | Literal["auto"]:
        """Rank of matrices with so many ``rows`` together, of ``shape`` (m, n) each, with one R."""
        n = shape[1]
        if self.keep:
            return min(max(int(self.keep * rows * n / (rows + n)), 1), n)
        return "auto" if isinstance(self.rank, str) else min(self.rank, *shape)

    def rank_of(self, shape: tuple[int, ...]) -> int | Literal["auto"]:
        """Rank of a matrix of this shape (m, n), which is at most its smaller side."""
        if self.keep:
            return max(int(self.keep * math.prod(shape) / sum(shape)), 1)
        return "auto" if isinstance(self.rank, str) else min(self.rank, *shape)


@dataclass(frozen=True)
class DecomposeSpec(Record):
    """How one matrix becomes Q + L R.

    ``damping`` is added to H as ``damping * diag(H)`` before it is factored (unitless);
    ``iterations`` bounds the Q -> LR alternations, which stop earlier when the proxy loss
    falls by less than ``tolerance`` (relative). Scales start at the RMS rule, or at the least
    rounding error of their group; with ``refit_scales`` polish fits them again in closed form.
    A round of polish is ``polish_sweeps`` sweeps, ``"auto"`` 2, or 1 of a trellis, whose second
    sweep takes 0.1 to 0.3 % off the error.
    ``device`` is where codes are found: another one rounds sums in another order.

    ``statistic`` is what recipes "low-rank" and "corrected" weigh errors of L R by: the second
    ``"moment"`` H, its diagonal (``"rms"``), the mean ``"magnitude"`` of each input or its square
    as a diagonal, nothing (``"identity"``), or the Fisher information of the matrix's own weights,
    summed over each column (``"fisher"``), or of columns and rows (``"fisher-two-sided"``).
    ``rounding`` and ``first`` are those of
    "corrected": Q rounded with feedback under H or to nearest, and which of Q and L R comes first.
    """

    recipe: str = "caldera"
    quant: QuantSpec = field(default_factory=QuantSpec)
    low_rank: LowRankSpec = field(default_factory=LowRankSpec)
    rotation: str = "hadamard"
    damping: float = 0.01
    iterations: int = 2
    inner_iterations: int = 4
    polish_sweeps: int | Literal["auto"] = "auto"
    refit_scales: bool = True
    tolerance: float = 3e-3
    seed: int = 20261122
    statistic: str = "moment"
    rounding: str = "feedback"
    first: str = "codes"
    device: str = "cpu"

    @property
    def stays_dense(self) -> bool:
        """Whether a matrix of a model is left as it is."""
        return self.low_rank.keep == 1

    def sweeps_of(self, block_rows: int) -> int:
        """Sweeps of a round of polish where so many rows are coded together."""
        if self.polish_sweeps == "auto":
            return 2 if block_rows == 1 else 1
        return self.polish_sweeps

    def check(self) -> None:
        """Refuse values that are not allowed."""
        for name, known in (
            *(("recipe", RECIPES), ("statistic", STATISTICS)),
            *(("rounding", ROUNDINGS), ("first", FIRSTS), ("device", DEVICES)),
        ):
            value = getattr(self, name)
            require(value in known, f"{name} {value!r} is unknown; use one of {', '.join(known)}")
        require(
            self.statistic == "moment" or self.recipe in ("low-rank", "corrected"),
            f"recipe {self.recipe} weighs errors by the second moment, not by {self.statistic}",
        )
        require(
            self.rotation in ROTATIONS,
            f"rotation {self.rotation!r} is unknown; use one of {', '.join(ROTATIONS)}",
        )
        require(
            self.low_rank.keep < 1 or self.recipe == "low-rank",
            f"keep=1 leaves a matrix as it is, which recipe {self.recipe} does not do",
        )
        require(0 <= self.damping < 1, f"damping={self.damping} must lie in [0, 1)")
        require(self.iterations >= 1, f"iterations={self.iterations} must be at least 1")
        require(
            self.inner_iterations >= 1,
            f"inner_iterations={self.inner_iterations} must be at least 1",
        )
        require(
            self.polish_sweeps == "auto" or self.polish_sweeps >= 0,
            f"polish_sweeps={self.polish_sweeps!r} must be 'auto' or an integer >= 0",
        )
        require(0 <= self.tolerance < 1, f"tolerance={self.tolerance} must lie in [0, 1)")
        require(self.seed >= 0, f"seed={self.seed} must be >= 0")

    def check_size(self) -> None:
        """Refuse that nobody says how large L R is to be, where nothing chooses it."""
        open_rank = self.low_rank.rank in ("auto", 0) and not self.low_rank.keep
        require(
            not (open_rank and self.recipe in ("low-rank", "corrected")),
            f"recipe {self.recipe} needs a rank of at least 1, not {self.low_rank.rank!r}; "
            "give --rank N or --keep PART",
        )
