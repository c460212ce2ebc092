"""What errors of matrices are weighed by."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lrc.base.record import Record, require

METRICS = ("inputs", "kl")


@dataclass(frozen=True)
class MetricSpec(Record):
    """What errors of matrices are weighed by: their ``inputs`` alone, or the model's end, too.

    ``of="kl"`` takes gradients of the divergence of the original's predictions at the outputs of
    every matrix, on about ``tokens`` of the calibration tokens. A token whose gradient has s times
    the mean energy counts ``s ** power`` times in the second moments, those of the inputs and of
    the gradients alike. ``outputs``: the gradients' moment weighs errors of one output against
    another's (two-sided LDLQ).
    """

    of: str = "inputs"
    tokens: int = 4096
    power: float = 0.5
    outputs: bool = True

    def check(self) -> None:
        """Refuse values that are not allowed."""
        require(
            self.of in METRICS, f"metric {self.of!r} is unknown; use one of {', '.join(METRICS)}"
        )
        require(self.tokens >= 1, f"tokens={self.tokens} must be at least 1")
        require(0 <= self.power <= 1, f"power={self.power} must lie in [0, 1]")
        require(
            self.of == "inputs" or self.outputs or self.power > 0,
            "a metric of outputs=false and power=0 is that of the inputs; leave metric at inputs",
        )

    @property
    def from_gradients(self) -> bool:
        """Whether gradients are taken."""
        return self.of != "inputs"

    @property
    def of_weights_alone(self) -> MetricSpec:
        """The same tokens, for whoever looks at the gradients of weights and no other."""
        return dataclasses.replace(self, power=0.0, outputs=False)

    def check_use(self, recipe: str, rounding: str, device: str) -> None:
        """Refuse what chooses no codes by errors, or elsewhere; see `lrc.spec.DecomposeSpec`."""
        if not self.from_gradients:
            return
        nearest = recipe == "corrected" and rounding == "nearest"
        require(
            recipe != "round-to-nearest" and not nearest,
            f"metric {self.of} weighs errors, and recipe {recipe} with rounding to nearest looks "
            "at no errors but its own; leave metric at inputs",
        )
        require(
            device == "cpu",
            f"metric {self.of} is worked with on the CPU; leave device at cpu, or metric at inputs",
        )
