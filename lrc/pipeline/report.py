"""What a compression reports, as it lies on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from lrc.base.resources import peak_rss_bytes
from lrc.measure.storage import storage
from lrc.parts.manifest import ARITHMETIC
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.journal import Journal
from lrc.spec import CompressSpec


@dataclass(frozen=True)
class CompressReport:
    """What was written and how well it fits; ``matrices`` are the records of ``lrc.json``.

    ``spec`` holds what an allocation chose, and ``allocation`` its summary; None without one.
    ``calibration`` says where the tokens came from: ``source``, ``windows``, ``window_tokens``
    and, for each of the ``files``, how many tokens of it were seen. ``self_test`` is what the model
    made of one window, opened from disk, beside its original (`lrc.measure.self_test.SelfTest`).
    ``arithmetic`` is what decided how sums were rounded (`lrc.base.arithmetic.arithmetic`).
    ``continued``: it went on from an earlier run, whose time is not in ``seconds``.
    """

    path: Path
    spec: CompressSpec
    allocation: dict[str, Any] | None
    calibration: dict[str, Any]
    matrices: dict[str, dict[str, Any]]
    bits_per_weight_linear: float
    bits_per_weight_file: float
    file_bytes: int
    seconds: float
    seconds_per_block: float
    peak_rss_bytes: int | None
    warnings: tuple[str, ...]
    self_test: dict[str, Any]
    arithmetic: dict[str, Any]
    continued: bool = False

    @classmethod
    def of(cls, out: Path, journal: Journal, seconds: float, *, continued: bool = False) -> Self:
        """Report of the model written to ``out``, which took ``seconds``."""
        written = PackedCheckpoint.open(out)
        stored = storage(written)
        return cls(
            path=out,
            spec=CompressSpec.from_dict(written.report["spec"]),
            allocation=written.report.get("allocation"),
            calibration=written.report["calibration"],
            matrices=written.report["matrices"],
            bits_per_weight_linear=stored["bits_per_weight_linear"] or 0.0,
            bits_per_weight_file=stored["bits_per_weight_file"],
            file_bytes=stored["file_bytes"],
            seconds=seconds,
            seconds_per_block=float(np.mean(journal.seconds)) if journal.seconds else 0.0,
            peak_rss_bytes=peak_rss_bytes(),
            warnings=tuple(written.report["warnings"]),
            self_test=written.report["self_test"],
            arithmetic=written.report[ARITHMETIC],
            continued=continued,
        )
