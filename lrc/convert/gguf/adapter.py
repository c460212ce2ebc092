"""Low-rank factors as an adapter that llama.cpp adds to a model (LoRA in a GGUF file)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.convert.gguf.file import StoredTensor, write_gguf
from lrc.errors import FormatError

_TYPES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}


@dataclass(frozen=True)
class Factors:
    """L (m, r) and R (r, n), float32 or float16, which are added to the tensor ``name``.

    Rows of L are in the order of the file that has the tensor.
    """

    name: str
    left: NDArray[Any]
    right: NDArray[Any]


def write_adapter(path: Path, architecture: str, factors: Sequence[Factors]) -> Path:
    """Write factors for a model of an architecture; the path that was written.

    llama.cpp multiplies L R by alpha / rank; alpha 0 stands for no multiplier, so that factors of
    any rank may lie side by side.

    Raises
    ------
    FormatError
        There is none.
    OutputError
        ``path`` exists or cannot be written.
    """
    if not factors:
        raise FormatError("there are no factors to write: the adapter would change nothing")
    fields = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.0,
    }
    tensors = [stored for each in factors for stored in _stored(each)]
    return write_gguf(path, architecture, fields, tensors)


def _stored(factors: Factors) -> list[StoredTensor]:
    return [
        StoredTensor(
            f"{factors.name}.{end}", _TYPES[array.dtype], array.shape, array.dtype,
            lambda array=array: array,  # type: ignore[misc]
        )
        for end, array in (("lora_a", factors.right), ("lora_b", factors.left))
    ]  # fmt: skip
