"""A model in other formats: one file a target that models are exported to, one for GGUF in.

A row names the file in this package and its function, which takes a model directory, the output
directory, ``progress`` and ``note``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from lrc.errors import SpecError


class Target(NamedTuple):
    """Something that models are exported to.

    Attributes
    ----------
    module, function
        Where it is written.
    says
        What comes out, in a few words.
    """

    module: str
    function: str
    says: str


#: What ``lrc export --to`` knows.
TARGETS = {
    "hf": Target("hf", "export_hf", "dense float16 Hugging Face directory"),
    "hf-codes": Target("hf", "export_hf_codes", "the same without L R, as a base for peft"),
    "peft": Target("low_rank", "export_peft", "L R as a PEFT adapter over an export without them"),
    "compressed-tensors": Target(
        "compressed_tensors", "export_compressed_tensors", "packed integers for vLLM, transformers"
    ),
    "gptq": Target("gptq", "export_gptq", "packed integers for what reads GPTQ checkpoints"),
    "gguf": Target("gguf.exporter", "export_gguf", "file for llama.cpp, L and R beside it"),
}


def export(model: Path | str, out: Path | str, target: str = "hf", **options: Any) -> Path:
    """Write the model in directory ``model`` for other programs; the path that was written.

    Raises
    ------
    SpecError
        If there is no such target.
    """
    if target not in TARGETS:
        raise SpecError(f"target {target!r} is unknown; use one of {', '.join(TARGETS)}")
    row = TARGETS[target]
    written: Path = getattr(importlib.import_module(f"{__name__}.{row.module}"), row.function)(
        model, out, **options
    )
    return written
