"""Parameter records: frozen, validated when built, round-tripped through JSON."""

from __future__ import annotations

from lrc.spec.budget import AllocationSpec
from lrc.spec.calibration import STREAMS, CalibrationSpec
from lrc.spec.compress import CompressSpec, MatrixSpec
from lrc.spec.decompose import (
    APART,
    DEVICES,
    FIRSTS,
    FISHER,
    FLAT_LLM,
    MODEGPT,
    PAIRS,
    RANKS,
    RECIPES,
    ROTATIONS,
    ROUNDINGS,
    STARTS,
    STATISTICS,
    WITH_FEEDBACK,
    DecomposeSpec,
    LowRankSpec,
    QuantSpec,
)
from lrc.spec.metric import MetricSpec
from lrc.spec.refine import DistilSpec

__all__ = [
    "APART",
    "DEVICES",
    "FIRSTS",
    "FISHER",
    "FLAT_LLM",
    "MODEGPT",
    "PAIRS",
    "RANKS",
    "RECIPES",
    "ROTATIONS",
    "ROUNDINGS",
    "STARTS",
    "STATISTICS",
    "STREAMS",
    "WITH_FEEDBACK",
    "AllocationSpec",
    "CalibrationSpec",
    "CompressSpec",
    "DecomposeSpec",
    "DistilSpec",
    "LowRankSpec",
    "MatrixSpec",
    "MetricSpec",
    "QuantSpec",
]
