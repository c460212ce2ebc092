"""Compress large language models to 2-4 bits a weight on a CPU, and run them.

Each matrix becomes ``W ~ Q + L R``: Q coarse, L and R of low rank. The verbs are
:func:`compress`, :func:`load`, :func:`generate`, :func:`perplexity`, :func:`compare`,
:func:`tune`, :func:`verify` and, for one matrix alone, :func:`decompose`; their parameters are
records, most of them of :mod:`lrc.spec`.

Importing this package is cheap: each verb is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrc.allocation import allocate
    from lrc.base.progress import ProgressCallback
    from lrc.convert.gguf import import_gguf
    from lrc.convert.hf import export_hf
    from lrc.errors import (
        CalibrationError,
        FormatError,
        LrcError,
        NumericalError,
        SpecError,
        UnsupportedModelError,
    )
    from lrc.measure.evaluate import Comparison, Evaluation, compare, perplexity, text_windows
    from lrc.pipeline.compress import compress
    from lrc.pipeline.report import CompressReport
    from lrc.pipeline.verify import Verification, verify
    from lrc.refine.options import TuneSpec
    from lrc.refine.tune import TuneReport, tune
    from lrc.run.generate import generate
    from lrc.run.load import LoadedModel, load
    from lrc.run.sampler import Sampler
    from lrc.solvers import Decomposition, decompose
    from lrc.spec import (
        AllocationSpec,
        CalibrationSpec,
        CompressSpec,
        DecomposeSpec,
        LowRankSpec,
        MatrixSpec,
        QuantSpec,
    )
    from lrc.spec.presets import preset

__version__ = "0.1.0"

_HOME = {
    "AllocationSpec": "lrc.spec",
    "CalibrationError": "lrc.errors",
    "CalibrationSpec": "lrc.spec",
    "Comparison": "lrc.measure.evaluate",
    "CompressReport": "lrc.pipeline.report",
    "CompressSpec": "lrc.spec",
    "DecomposeSpec": "lrc.spec",
    "Decomposition": "lrc.solvers",
    "Evaluation": "lrc.measure.evaluate",
    "FormatError": "lrc.errors",
    "LoadedModel": "lrc.run.load",
    "LowRankSpec": "lrc.spec",
    "LrcError": "lrc.errors",
    "MatrixSpec": "lrc.spec",
    "NumericalError": "lrc.errors",
    "ProgressCallback": "lrc.base.progress",
    "QuantSpec": "lrc.spec",
    "Sampler": "lrc.run.sampler",
    "SpecError": "lrc.errors",
    "TuneReport": "lrc.refine.tune",
    "TuneSpec": "lrc.refine.options",
    "Verification": "lrc.pipeline.verify",
    "UnsupportedModelError": "lrc.errors",
    "allocate": "lrc.allocation",
    "compare": "lrc.measure.evaluate",
    "compress": "lrc.pipeline.compress",
    "decompose": "lrc.solvers",
    "export_hf": "lrc.convert.hf",
    "generate": "lrc.run.generate",
    "import_gguf": "lrc.convert.gguf",
    "load": "lrc.run.load",
    "perplexity": "lrc.measure.evaluate",
    "preset": "lrc.spec.presets",
    "text_windows": "lrc.measure.evaluate",
    "tune": "lrc.refine.tune",
    "verify": "lrc.pipeline.verify",
}

__all__ = [
    "AllocationSpec",
    "CalibrationError",
    "CalibrationSpec",
    "Comparison",
    "CompressReport",
    "CompressSpec",
    "DecomposeSpec",
    "Decomposition",
    "Evaluation",
    "FormatError",
    "LoadedModel",
    "LowRankSpec",
    "LrcError",
    "MatrixSpec",
    "NumericalError",
    "ProgressCallback",
    "QuantSpec",
    "Sampler",
    "SpecError",
    "TuneReport",
    "TuneSpec",
    "UnsupportedModelError",
    "Verification",
    "__version__",
    "allocate",
    "compare",
    "compress",
    "decompose",
    "export_hf",
    "generate",
    "import_gguf",
    "load",
    "perplexity",
    "preset",
    "text_windows",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home module at first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'lrc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
