"""What a user may choose of tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lrc.base.record import Record, require
from lrc.errors import SpecError
from lrc.refine.tunables import WHAT


@dataclass(frozen=True)
class TuneSpec(Record):
    """How a compressed model is tuned.

    ``what``: kinds of numbers, of `lrc.refine.tunables.WHAT`. ``files`` empty means text that the
    original writes. Windows of ``seqlen`` tokens are learnt from, ``tokens`` in all; ``held_out``
    further ones choose what is stored. ``passes`` over the windows are made, ``batch`` of them a
    step, at a learning rate that rises to ``rate`` and falls to 0: the step of a number over about
    the root mean square of those that are stored with it. "auto": that of the last tuning, or what
    a trial of the first step finds; see `lrc.refine.rate`. ``checks`` are made on the way.
    """

    what: tuple[str, ...] = ("norms", "gains", "rows", "signs")
    files: tuple[str, ...] = ()
    tokens: int = 32768
    held_out: int = 4
    seqlen: int | Literal["auto"] = "auto"
    passes: int = 1
    batch: int = 2
    rate: float | Literal["auto"] = "auto"
    checks: int = 4
    seed: int = 0

    def check(self) -> None:
        """Refuse values that are not allowed."""
        if unknown := sorted(set(self.what) - set(WHAT)):
            raise SpecError(f"cannot tune {', '.join(unknown)}; use {', '.join(WHAT)}")
        require(len(self.what) > 0, f"there is nothing to tune; use {', '.join(WHAT)}")
        for name in ("tokens", "held_out", "passes", "batch", "checks"):
            value = getattr(self, name)
            require(value >= 1, f"{name}={value} must be at least 1")
        require(
            self.rate == "auto" or 0 < self.rate < float("inf"),
            f"rate={self.rate} must be a positive number, such as 2e-3, or auto",
        )
        require(self.seed >= 0, f"seed={self.seed} must be 0 or positive")
