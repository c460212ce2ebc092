"""The forecast of a compression, and the refusal of what is out of reach."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lrc.allocation.sizes import weights_of
from lrc.base.threads import resolve_threads
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.base import Model
from lrc.models.speech import hears
from lrc.models.tensors import weight_of
from lrc.pipeline.forecast.counts import tokens_of
from lrc.pipeline.forecast.memory import MemoryPlan, memory_plan
from lrc.pipeline.forecast.shapes import Special, special_shapes
from lrc.pipeline.forecast.size import Sizes, sizes
from lrc.pipeline.plan import Speeds, plan
from lrc.spec import AllocationSpec, CompressSpec

#: Bytes on disk for every weight that a budget looks at, while it does.
_SURVEYED = 1.2


@dataclass(frozen=True)
class Forecast:
    """What a compression will take, from the configuration and headers of weights alone.

    ``size`` is exact as far as it says so. ``memory`` is the peak by the system's count.
    ``disk`` bytes are taken at most while it runs, the output among them. ``seconds`` are those
    of this machine, at ``speeds`` that a short probe has measured. ``tokens`` of text are looked
    at. ``special`` are shapes with a treatment of their own.
    """

    size: Sizes
    memory: MemoryPlan
    disk: int
    seconds: float
    speeds: Speeds
    tokens: int
    special: tuple[Special, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``lrc plan --json`` prints them and ``lrc-run.json`` keeps them."""
        low, high = self.size.bits_per_weight
        totals = {"total": self.size.total, "total_most": self.size.total_most}
        return {
            "size": asdict(self.size) | totals,
            "bits_per_weight": [low, high],
            "memory": {
                "peak_bytes": self.memory.peak.bytes,
                "what": self.memory.peak.what,
                "least_bytes": self.memory.least.bytes,
                "spooled_bytes": self.memory.spooled_bytes,
                **asdict(self.memory.way),
            },
            "disk_bytes": self.disk,
            "seconds": self.seconds,
            "speeds": asdict(self.speeds),
            "tokens": self.tokens,
            "special": [asdict(one) for one in self.special],
        }  # fmt: skip


def forecast(
    model: Model,
    checkpoint: Checkpoint,
    spec: CompressSpec,
    allocation: AllocationSpec | None = None,
    *,
    ram: int | None = None,
    threads: int | None = None,
) -> Forecast:
    """What compressing takes; nothing is read but headers, and nothing is written.

    Parameters
    ----------
    model, checkpoint
        Of the original, from :func:`lrc.models.opened.open_original`.
    spec : CompressSpec
    allocation : AllocationSpec, optional
        A budget.
    ram : int, optional
        Most bytes of memory: decides how memory is used.
    threads : int, optional

    Raises
    ------
    SpecError
        The model hears, or ``ram`` is out of reach.

    Notes
    -----
    The probe takes about a second, and compiles what the compression needs anyway.
    """
    if hears(model):
        raise SpecError("a forecast counts windows of text, and this is a speech model")
    count = resolve_threads(threads)
    memory = memory_plan(model, spec, allocation, count, ram)
    size = sizes(model.tensors, spec, allocation, checkpoint.other_files())
    made = plan(model, {"": spec}, allocations={"": allocation}, threads=memory.way.threads)
    return Forecast(
        size=size,
        memory=memory,
        disk=size.total_most + _meanwhile(model, spec, allocation) + memory.spooled_bytes,
        seconds=made.seconds,
        speeds=made.speeds,
        tokens=tokens_of(model, spec),
        special=special_shapes(model, spec, tokens_of(model, spec)),
    )


def _meanwhile(model: Model, spec: CompressSpec, allocation: AllocationSpec | None) -> int:
    """Bytes of files that are there only until the end."""
    found = 4.0 * tokens_of(model, spec)
    if allocation is not None:
        found += _SURVEYED * weights_of(model.tensors)
    if spec.takes_gradients and spec.metric.outputs:
        shapes = (model.tensors.shape(weight_of(name)) for name in model.tensors.matrices)
        found += sum(4.0 * shape[0] ** 2 for shape in shapes)
    return int(found)


def check_time(found: Forecast, seconds: float | None, *, named: bool = False) -> None:
    """Refuse a time in which nothing valid can be done.

    ``named``: the effort was, and a lesser one would be chosen without that.

    Raises
    ------
    SpecError
        Saying what is possible.
    """
    if seconds is None or found.seconds <= seconds:
        return
    need = math.ceil(found.seconds / 60 + 0.5)
    work = "what was asked for" if named else "the least work known"
    instead = "leave --effort or --preset out, for less work to be chosen" if named else (
        "fewer windows with --nsamples, or text with --calib FILE"
    )  # fmt: skip
    raise SpecError(
        f"--time {seconds / 60:.3g}m is out of reach: {work} takes about {need} min here; give "
        f"--time {need}m or more, or {instead}"
    )


def check_disk(found: Forecast, out: Path) -> None:
    """Refuse an output that the disk has no room for.

    Raises
    ------
    SpecError
        Saying what is needed, and what is free.
    """
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if found.disk > free:
        raise SpecError(
            f"{out} needs up to {found.disk / 1e9:.3g} GB while it is made, and {there} has "
            f"{free / 1e9:.3g} GB free; free some space, or put it elsewhere with -o"
        )
