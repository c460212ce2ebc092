"""Everything that decides the bytes of a compressed model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from lrc import codebooks
from lrc.base.record import Record, require
from lrc.spec.calibration import CalibrationSpec
from lrc.spec.decompose import (
    APART,
    FISHER,
    PAIRS,
    RANKS,
    WITH_FEEDBACK,
    DecomposeSpec,
    LowRankSpec,
    QuantSpec,
)
from lrc.spec.metric import MetricSpec
from lrc.spec.refine import DistilSpec


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

    @property
    def _of_text(self) -> list[str]:
        """What is asked for that second moments alone do not tell."""
        statistic = self.decompose.statistic
        asked = {
            "bias": self.bias,
            f"ranks {self.ranks}": self.ranks != "equal",
            f"statistic {statistic}": statistic.startswith("magnitude") or statistic in FISHER,
            f"metric {self.metric.of}": self.metric.from_gradients,
        }
        return [name for name, wanted in asked.items() if wanted]

    def check(self) -> None:
        """Refuse values that are not allowed."""
        require(
            self.distil.epochs == 0 or self.calibration.streams != "original",
            "distillation takes both streams; leave streams at mixed",
        )
        seen = self.calibration
        require(
            not seen.imatrix or not self._of_text,
            f"{', '.join(self._of_text)}: measured on text, and an importance matrix has second "
            "moments alone; give text instead, or leave that out",
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
