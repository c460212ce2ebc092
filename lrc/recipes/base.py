"""What a method of the literature is here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lrc.spec import APART, CompressSpec, DistilSpec, MetricSpec, QuantSpec


@dataclass(frozen=True)
class Recipe:
    """Values of options that a method decides.

    Attributes
    ----------
    about : str
        What it does, in a line for users.
    source : str
        Where it was published.
    decompose, low_rank, calibration : mapping
        Fields of the records of these names in :class:`~lrc.spec.CompressSpec`.
    quant : QuantSpec or None
        How the method codes Q, where it says so.
    distil : DistilSpec
        What is learned once a block's matrices are solved.
    table_bits : int or "auto"
        Bits of embedding and head.
    bias : bool
        Whether linear layers get biases.
    ranks : str
        How ranks are shared out among matrices.
    metric : MetricSpec or None
        What errors are weighed by, where the method says so.
    basis_blocks : int
        Blocks whose matrices of a kind have one basis.
    pairs : str
        How matrices with only narrow values between them are cut.
    """

    about: str
    source: str
    decompose: Mapping[str, Any] = field(default_factory=dict)
    low_rank: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    quant: QuantSpec | None = None
    distil: DistilSpec = field(default_factory=DistilSpec)
    table_bits: int | Literal["auto"] = "auto"
    bias: bool = False
    ranks: str = "equal"
    metric: MetricSpec | None = None
    basis_blocks: int = 1
    pairs: str = APART

    def on(self, spec: CompressSpec) -> CompressSpec:
        """``spec`` with the values of this method; what it does not decide stays."""
        solve = spec.decompose
        low_rank = dataclasses.replace(solve.low_rank, **self.low_rank)
        quant = self.quant or solve.quant
        solve = dataclasses.replace(solve, quant=quant, low_rank=low_rank, **self.decompose)
        calibration = dataclasses.replace(spec.calibration, **self.calibration)
        spec = dataclasses.replace(
            spec,
            decompose=solve,
            calibration=calibration,
            distil=self.distil,
            bias=self.bias,
            ranks=self.ranks,
            metric=self.metric or spec.metric,
            basis_blocks=self.basis_blocks,
            pairs=self.pairs,
        )
        if self.table_bits == "auto":
            return spec
        return dataclasses.replace(spec, embed_bits=self.table_bits, head_bits=self.table_bits)
