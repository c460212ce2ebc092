"""How much is learned, and how."""

from __future__ import annotations

from dataclasses import dataclass

from lrc.base.record import Record, require


@dataclass(frozen=True)
class DistilSpec(Record):
    """Distillation of each block's factors after its matrices are solved; none at 0 ``epochs``.

    Every epoch all calibration windows are seen once but one step in ``held_out``, on which the
    best epoch is chosen; learning stops ``patience`` epochs after it. ``rate`` is Adam's at its
    largest, over the root mean square of the array, and ``windows`` are seen a step.
    """

    epochs: int = 0
    rate: float = 0.02
    windows: int = 1
    held_out: int = 8
    patience: int = 2

    def check(self) -> None:
        """Refuse values that are not allowed."""
        require(self.epochs >= 0, f"epochs={self.epochs} must be >= 0")
        require(0 < self.rate < 1, f"rate={self.rate} must lie in (0, 1)")
        require(self.held_out >= 2, f"held_out={self.held_out} must be at least 2")
        for name in ("windows", "patience"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1")
