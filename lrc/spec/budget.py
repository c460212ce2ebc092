"""What a budget is, and how much work goes into spending it."""

from __future__ import annotations

from dataclasses import dataclass

from lrc.base.record import Record, require


@dataclass(frozen=True)
class AllocationSpec(Record):
    """A budget to spend over all matrices, and the effort that goes into spending it well.

    Exactly one of ``bits_per_weight`` (stored bits of the linear layers over their weights) and
    ``file_bytes`` (every byte of the weight files; embedding and head are chosen too) is given,
    the other is 0. ``survey_windows`` calibration windows give the second moments of the survey;
    KL is taken on the first ``heldout_tokens`` tokens of ``heldout_windows`` others.
    ``passes`` bounds the runs of those tokens through the whole model that sensitivities may
    cost: with fewer, matrices are measured in larger groups. ``generations`` of ``offspring``
    changed allocations each are then tried end to end.
    """

    bits_per_weight: float = 0.0
    file_bytes: int = 0
    survey_windows: int = 16
    heldout_windows: int = 4
    heldout_tokens: int = 256
    passes: int = 80
    generations: int = 0
    offspring: int = 6

    def check(self) -> None:
        """Refuse values that are not allowed."""
        require(
            (self.bits_per_weight > 0) != (self.file_bytes > 0),
            f"bits_per_weight={self.bits_per_weight} and file_bytes={self.file_bytes}: "
            "give exactly one of them, more than 0",
        )
        require(self.bits_per_weight < 64, f"bits_per_weight={self.bits_per_weight} is too large")
        for name, least in (
            *(("survey_windows", 1), ("heldout_windows", 1), ("heldout_tokens", 2)),
            *(("passes", 1), ("generations", 0), ("offspring", 1)),
        ):
            value = getattr(self, name)
            require(value >= least, f"{name}={value} must be at least {least}")
