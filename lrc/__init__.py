"""Compress large language models to 2-4 bits a weight on a CPU, and run them.

Each matrix becomes ``W ~ Q + L R``: Q coarse, L and R of low rank. The verbs are
:func:`compress`, :func:`load`, :func:`generate`, :func:`perplexity`, :func:`compare` and, for
one matrix alone, :func:`decompose`; their parameters are the records of :mod:`lrc.spec`.

Importing this package is cheap: each verb is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrc.allocate import allocate
    from lrc.compress import CompressReport, compress
    from lrc.decompose import Decomposition, decompose
    from lrc.errors import (
        CalibrationError,
        FormatError,
        LrcError,
        NumericalError,
        SpecError,
        UnsupportedModelError,
    )
    from lrc.evaluate import Comparison, Evaluation, compare, perplexity, text_windows
    from lrc.exports.hf import export_hf
    from lrc.formats.gguf_import import import_gguf
    from lrc.generate import generate
    from lrc.load import LoadedModel, load
    from lrc.presets import preset
    from lrc.sampler import Sampler
    from lrc.spec import (
        AllocationSpec,
        CalibrationSpec,
        CompressSpec,
        DecomposeSpec,
        LowRankSpec,
        MatrixSpec,
        QuantSpec,
    )

__version__ = "0.1.0"

_HOME = {
    "AllocationSpec": "lrc.spec",
    "CalibrationError": "lrc.errors",
    "CalibrationSpec": "lrc.spec",
    "Comparison": "lrc.evaluate",
    "CompressReport": "lrc.compress",
    "CompressSpec": "lrc.spec",
    "DecomposeSpec": "lrc.spec",
    "Decomposition": "lrc.decompose",
    "Evaluation": "lrc.evaluate",
    "FormatError": "lrc.errors",
    "LoadedModel": "lrc.load",
    "LowRankSpec": "lrc.spec",
    "LrcError": "lrc.errors",
    "MatrixSpec": "lrc.spec",
    "NumericalError": "lrc.errors",
    "QuantSpec": "lrc.spec",
    "Sampler": "lrc.sampler",
    "SpecError": "lrc.errors",
    "UnsupportedModelError": "lrc.errors",
    "allocate": "lrc.allocate",
    "compare": "lrc.evaluate",
    "compress": "lrc.compress",
    "decompose": "lrc.decompose",
    "export_hf": "lrc.exports.hf",
    "generate": "lrc.generate",
    "import_gguf": "lrc.formats.gguf_import",
    "load": "lrc.load",
    "perplexity": "lrc.evaluate",
    "preset": "lrc.presets",
    "text_windows": "lrc.evaluate",
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
    "QuantSpec",
    "Sampler",
    "SpecError",
    "UnsupportedModelError",
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
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home module at first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'lrc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


class _Package(ModuleType):
    """Keeps a verb from being hidden by the module of the same name.

    Importing ``lrc.compress`` makes Python set the attribute ``compress`` of this package to
    that module; here the public name goes on meaning the function. The module stays reachable
    by ``from lrc.compress import ...``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
