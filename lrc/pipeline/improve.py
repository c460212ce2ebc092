"""What is left of a time once a model is there: it goes into tuning, the best so far on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lrc.base.progress import SILENT, Progress
from lrc.calibrate.corpus import window_length
from lrc.calibrate.shipped import shipped_files
from lrc.models.base import Model
from lrc.pipeline.plan import pass_products
from lrc.refine.options import TuneSpec
from lrc.refine.tune import TuneReport, tune
from lrc.spec import CalibrationSpec

#: What takes no further byte.
_SAME_SIZE = ("norms", "gains")
#: Windows that are held out, and how often they are looked at on the way.
HELD_OUT, CHECKS = 2, 2
#: Passes of a token that is learnt from, there and back on decoded codes; of one that is held out.
_LEARNT, _LOOKED_AT = 7.0, 3.0
#: Looks at held-out text: before, at each check, and those of the trial of rates.
_LOOKS = 1 + CHECKS + 4
#: Fewest windows that are worth it.
_FEWEST = 8
#: Part of the time that is counted on: the rest is for what the estimate is off by.
_USED = 0.7


def tune_spec(
    model: Model,
    seconds: float,
    multiplications: float,
    files: Sequence[str],
    *,
    same_size: bool = False,
) -> TuneSpec | None:
    """How to tune for so many seconds, at so many multiplications a second; None: too few.

    ``files`` of text are learnt from; where there are none, text that ships with Python.
    ``same_size``: only numbers whose place is there already.
    """
    length = window_length(CalibrationSpec(), model.context)
    each = pass_products(model, length) / multiplications  # seconds of a window's way
    looks = _LOOKS * HELD_OUT * _LOOKED_AT * each
    windows = int((_USED * seconds - looks) / (_LEARNT * each))
    if windows < _FEWEST:
        return None
    most = TuneSpec().tokens // length
    return TuneSpec(
        what=_SAME_SIZE if same_size else TuneSpec().what,
        files=tuple(files) or tuple(map(str, shipped_files())),
        tokens=min(windows, most) * length,
        held_out=HELD_OUT,
        checks=CHECKS,
        passes=max(windows // most, 1),
    )


def improve(
    out: Path,
    original: Path,
    spec: TuneSpec,
    seconds: float,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> TuneReport:
    """Tune the model in ``out`` until so many seconds are over, or all of the steps are made.

    What is stored then comes of the spec and the number of steps, both on record.

    Raises
    ------
    KeyboardInterrupt
        Saying that what lies there is whole.
    """
    deadline = time.perf_counter() + seconds
    try:
        return tune(
            out, original, spec, threads=threads, progress=progress,
            stop=lambda _: time.perf_counter() > deadline,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted while tuning; {out} is complete, with the best that was found so far"
        ) from None
