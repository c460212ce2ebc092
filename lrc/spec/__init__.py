"""Parameter records: frozen, validated when built, round-tripped through JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal, Self

from lrc import codebooks
from lrc.base.record import Record, require
from lrc.errors import SpecError
from lrc.spec.budget import AllocationSpec
from lrc.spec.calibration import STREAMS, CalibrationSpec
from lrc.spec.metric import MetricSpec
from lrc.spec.refine import DistilSpec

__all__ = [
    "STREAMS",
    "AllocationSpec",
    "CalibrationSpec",
    "CompressSpec",
    "DecomposeSpec",
    "DistilSpec",
    "LowRankSpec",
    "MatrixSpec",
    "MetricSpec",
    "QuantSpec",
]

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


@dataclass(frozen=True)
class MatrixSpec(Record):
    """What one matrix gets instead of the common codebook and rank, and why.

    ``polish_sweeps`` are those of `DecomposeSpec`, None: the common ones.
    """

    quant: QuantSpec = field(default_factory=QuantSpec)
    low_rank: LowRankSpec = field(default_factory=LowRankSpec)
    reason: str = ""
    polish_sweeps: int | Literal["auto"] | None = None


@dataclass(frozen=True)
class CompressSpec(Record):
    """Everything that decides the bytes of a compressed model.

    ``embed_bits`` and ``head_bits`` are those of the embedding and of a head that is not tied to
    it; ``"auto"`` gives the embedding what its bytes are worth beside those of the matrices (see
    `table_bits`), and the head as many, unless ``embed_codebook`` or ``head_codebook`` has one
    width alone. ``matrices`` names those that differ from ``decompose``, without ``.weight``.
    ``bias`` gives every linear layer a bias that makes up for the mean of its error; moments are
    then those of the inputs less their mean, and so are errors. ``ranks`` is how L R alone shares
    the numbers that ``decompose.low_rank.keep`` leaves out among the matrices: ``"equal"`` parts,
    or by a rule of :mod:`lrc.allocation.rank_rules`. ``basis_blocks`` neighbouring blocks have one
    R for their matrices of a kind, but for those of experts, those that write to the residual
    stream and those that ``matrices`` names. ``pairs`` other than "apart" cut both matrices of a
    pair to fewer inner channels (:mod:`lrc.pipeline.pairs`); others get L R. ``portable``: the
    bytes are those of an arithmetic that processors of all types have
    (:mod:`lrc.base.arithmetic`).
    """

    decompose: DecomposeSpec = field(default_factory=DecomposeSpec)
    calibration: CalibrationSpec = field(default_factory=CalibrationSpec)
    embed_bits: int | Literal["auto"] = "auto"
    head_bits: int | Literal["auto"] = "auto"
    matrices: dict[str, MatrixSpec] = field(default_factory=dict, hash=False)
    distil: DistilSpec = field(default_factory=DistilSpec)
    embed_codebook: str = codebooks.TABLES
    head_codebook: str = codebooks.TABLES
    metric: MetricSpec = field(default_factory=MetricSpec)
    bias: bool = False
    ranks: str = "equal"
    basis_blocks: int = 1
    pairs: str = APART
    portable: bool = False

    @property
    def takes_gradients(self) -> bool:
        """Whether anything is weighed by gradients of the original's predictions."""
        return self.metric.from_gradients or self.decompose.statistic in FISHER

    def for_matrix(self, name: str) -> DecomposeSpec:
        """How the linear layer ``name`` is decomposed: its tensor, without ``.weight``."""
        own = self.matrices.get(name)
        if own is None:
            return self.decompose
        common = self.decompose
        sweeps = common.polish_sweeps if own.polish_sweeps is None else own.polish_sweeps
        return dataclasses.replace(
            common, quant=own.quant, low_rank=own.low_rank, polish_sweeps=sweeps
        )

    def table_bits(self, beside: float = 0.0) -> tuple[int, int]:
        """Bits of embedding and head as numbers, ``beside`` so many a weight (0: its own).

        Where they are rotated, and rounded with feedback, 4 to 6; rounded weight by weight, 6 or 8.
        """
        embed, head = self.embed_bits, self.head_bits
        if embed == "auto":
            wide = self._automatic_bits(beside or self.decompose.quant.bits)
            embed = _width(self.embed_codebook, wide)
        return embed, _width(self.head_codebook, embed) if head == "auto" else head

    def _automatic_bits(self, beside: float) -> int:
        solver = self.decompose
        if solver.rotation == "none" or solver.recipe not in WITH_FEEDBACK:
            return 6 if beside < 2.5 else 8
        return next(bits for most, bits in _TABLE_BITS if beside < most)

    def check_size(self) -> None:
        """Refuse that nobody says how large L R is to be, where nothing chooses it.

        Raises
        ------
        SpecError
            Saying what to give.
        """
        self.decompose.check_size()
        require(
            self.ranks == "equal" or self.decompose.low_rank.keep > 0,
            f"ranks {self.ranks} share out a part of the model's numbers; give --keep PART, "
            "or --ranks equal with --rank N",
        )
        require(
            self.pairs == APART or self.decompose.low_rank.keep > 0,
            f"pairs {self.pairs} keep a part of their channels; give --keep PART",
        )

    def with_table_bits(self, beside: float = 0.0) -> CompressSpec:
        """The same with :meth:`table_bits` written down."""
        embed, head = self.table_bits(beside)
        return dataclasses.replace(self, embed_bits=embed, head_bits=head)

    def check(self) -> None:
        """Refuse values that are not allowed."""
        require(
            self.distil.epochs == 0 or self.calibration.streams != "original",
            "distillation takes both streams; leave streams at mixed",
        )
        seen = self.calibration
        texts = self.bias or self.ranks != "equal" or self.takes_gradients
        require(
            not seen.imatrix or not (texts or self.decompose.statistic.startswith("magnitude")),
            "what is asked for is measured on text, and an importance matrix has second moments "
            "alone; give text instead",
        )
        require(
            not self.bias or seen.streams == "original" or seen.mix == seen.repair == 0,
            "biases make up for errors on one stream's inputs: take streams original, or mix 0 and "
            "repair 0",
        )
        require(
            self.ranks in RANKS, f"ranks {self.ranks!r} are unknown; use one of {', '.join(RANKS)}"
        )
        require(
            self.ranks == "equal" or self.decompose.recipe == "low-rank",
            f"ranks {self.ranks} are those of L R alone; take recipe low-rank or one like it",
        )
        self._check_together()
        solve = self.decompose
        require(
            not self.portable or solve.device == "cpu",
            f"device {solve.device} gives bytes of its own: portable ones are made on the cpu",
        )
        self.metric.check_use(solve.recipe, solve.rounding, solve.device)
        for what in ("embed", "head"):
            bits, book = getattr(self, f"{what}_bits"), getattr(self, f"{what}_codebook")
            require(book in codebooks.CODEBOOKS, f"{what}_codebook {book!r} is unknown")
            known = bits == "auto" or 4 <= bits <= 8 or bits == 16
            require(known, f"{what}_bits={bits!r} must be 'auto', 4 to 8, or 16")
            widths = codebooks.CODEBOOKS[book].bits
            require(
                bits in ("auto", 16, *widths),
                f"{what}_bits={bits!r}: codebook {book} has {codebooks.widths(widths)}",
            )

    def _check_together(self) -> None:
        """Refuse that what is solved together is not L R alone on the original's inputs."""
        solve, blocks = self.decompose, self.basis_blocks
        require(blocks >= 1, f"basis_blocks={blocks} must be at least 1")
        require(
            self.pairs in PAIRS, f"pairs {self.pairs!r} are unknown; use one of {', '.join(PAIRS)}"
        )
        paired = self.pairs != APART
        what = f"pairs {self.pairs}" if paired else f"{blocks} blocks on a basis"
        name = self.pairs if paired else "basis-sharing"
        require(
            blocks == 1 or not paired, f"{what} and {blocks} blocks on a basis are not one model"
        )
        for field_name, given, needed in (
            ("recipe", solve.recipe, "low-rank"),
            ("rotation", solve.rotation, "none"),
            ("statistic", solve.statistic, "moment"),
            ("streams", self.calibration.streams, "original"),
            ("ranks", self.ranks, "equal"),
            ("distil", self.distil.epochs, 0),
            ("gradients", self.metric.from_gradients, False),
            ("bias", self.bias and paired, False),
        ):
            require(
                (blocks == 1 and not paired) or given == needed,
                f"{what} take {field_name} {needed}, not {given}; take recipe {name}, or leave "
                "matrices their own",
            )


def _width(codebook: str, bits: int) -> int:
    """``bits``, or the one width that the codebook has."""
    known = codebooks.CODEBOOKS[codebook].bits
    return bits if len(known) > 1 else known[0]


#: Most bits a weight of the matrices, and automatic bits of tables beside fewer. On a model of 135M
#: weights, 28M of them in the table, a fifth and a sixth bit there lower the divergence by 0.03 and
#: 0.007, and as many bytes in the matrices by 0.09 at 2 bits, 0.02 at 3 and 0.007 at 4.
_TABLE_BITS = ((2.5, 4), (3.75, 5), (math.inf, 6))
