"""Keeping to a time: where matrices are late, those that are left are searched less hard for.

What is lowered is named in the spec, matrix by matrix, so that the same bytes come again from it
on any machine, however fast. Codes of all searches have the same size.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from lrc import codebooks
from lrc.models.tensors import Tensors, weight_of
from lrc.spec import CompressSpec, MatrixSpec, QuantSpec
from lrc.spec.presets import EFFORTS

#: Part of what is left that the estimate of it may be off by.
_MARGIN = 1.1
#: What a step down takes of the time of the one above, about: where that is not enough, two.
_STEP = 0.45


@dataclass
class TimeLimit:
    """A time for all matrices, and how far the search for their codes is lowered to keep to it.

    Parameters
    ----------
    seconds : float
        From ``began`` on, of ``clock``, until the last matrix is to be there.
    weights : int
        Of all matrices that are to be solved.
    began : float
    clock : function
    """

    seconds: float
    weights: int
    began: float
    clock: Callable[[], float] = time.perf_counter
    step: int = 0
    _done: int = 0
    _since: tuple[float, int] | None = field(default=None, repr=False)

    def lowered(self, spec: CompressSpec, names: Iterable[str]) -> dict[str, MatrixSpec]:
        """What the matrices ``names`` get; none where they are on time. To be asked before each."""
        now = self.clock()
        if self._since is None:
            self._since = now, self._done
        then, before = self._since
        if self._done > before:
            rate = (now - then) / (self._done - before)
            needed = rate * (self.weights - self._done) * _MARGIN
            left = self.began + self.seconds - now
            if needed > left and self.step < len(STEPS):
                self.step += 1 if needed * _STEP <= left else 2
                self.step = min(self.step, len(STEPS))
                self._since = now, self._done
        if not self.step:
            return {}
        return {name: lower(spec, name, self.step) for name in names}

    def passed(self, weights: int) -> None:
        """So many more weights are done."""
        self._done += weights


def time_limit_of(
    tensors: Tensors, done: Container[str], seconds: float, began: float
) -> TimeLimit:
    """A time for the matrices of a model that are not ``done``, by the names of their tensors."""
    left = (name for name in map(weight_of, tensors.matrices) if name not in done)
    return TimeLimit(seconds, sum(math.prod(tensors.shape(name)) for name in left), began)


def _less_polish(quant: QuantSpec) -> QuantSpec:
    return quant


def _quicker_code(quant: QuantSpec) -> QuantSpec:
    """The codebook of the least effort, in place of one that another effort has."""
    if not _is_of_efforts(quant):
        return quant
    return QuantSpec(codebooks.at_width(EFFORTS["least"].codebook, quant.bits), quant.bits)


def _plain_code(quant: QuantSpec) -> QuantSpec:
    """Codes of one weight each: nothing is searched for."""
    return QuantSpec(codebooks.WIDE, quant.bits) if _is_of_efforts(quant) else quant


def _is_of_efforts(quant: QuantSpec) -> bool:
    """Whether its codebook is one that an effort has at this width; others were asked for."""
    known = {codebooks.at_width(of.codebook, quant.bits) for of in EFFORTS.values()}
    return quant.codebook in known


#: How codes are searched for, less hard from step to step; none is polished.
STEPS: tuple[tuple[str, Callable[[QuantSpec], QuantSpec]], ...] = (
    ("codes are not polished", _less_polish),
    ("codes of the least effort, not polished", _quicker_code),
    ("codes of one weight each, not polished", _plain_code),
)


def lower(spec: CompressSpec, name: str, step: int) -> MatrixSpec:
    """Parameters of a matrix ``step`` steps down; a rank that was to be found out is 0."""
    own = spec.for_matrix(name)
    why, change = STEPS[step - 1]
    low_rank = own.low_rank
    if low_rank.rank == "auto" and not low_rank.keep:
        low_rank = dataclasses.replace(low_rank, rank=0)
    return MatrixSpec(change(own.quant), low_rank, f"late: {why}", polish_sweeps=0)
