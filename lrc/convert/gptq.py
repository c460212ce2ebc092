"""A model as a GPTQ checkpoint, which many programs read.

Of a layer are stored, for b bits and groups of g inputs:

======= ===== ================== ==========================================================
tensor  dtype shape              meaning
======= ===== ================== ==========================================================
qweight I32   (n b / 32, m)      codes c of an output, lowest bit first, down the columns
qzeros  I32   (n / g, m b / 32)  zero points z of a group less 1, along the outputs
scales  F16   (n / g, m)         a weight is scale (c - z); here z is 2^b / 2
g_idx   I32   (n,)               the group of an input
======= ===== ================== ==========================================================

Codes of 3 bits run on over the ends of words. This is ``checkpoint_format`` "gptq", whose zero
points are stored less 1; "gptq_v2" has them as they are. Source: the formats' loaders, AutoGPTQ
and GPTQModel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import json_bytes
from lrc.convert.integers import Integers, Progress, Scheme, export_integers, packed_words
from lrc.errors import SpecError
from lrc.formats.safetensors.writing import TensorSpec

#: Outputs, and inputs, come in so many.
_WHOLE = 32


class Gptq:
    """The format."""

    name = "gptq"

    def check(self, schemes: Mapping[str, Scheme], dense: list[str]) -> None:
        """Refuse what differs from layer to layer, which the format has no words for.

        Raises
        ------
        SpecError
            Naming a layer.
        """
        if dense:
            raise SpecError(
                f"{dense[0]} has no codes that gptq has, and the format has all layers or none; "
                "lrc compress --for gptq makes them, --to compressed-tensors takes any"
            )
        kinds = {(one.bits, one.group): name for name, one in schemes.items()}
        if len(kinds) > 1:
            told = ", ".join(f"{b} bits in groups of {g} ({n})" for (b, g), n in kinds.items())
            raise SpecError(
                f"gptq has one width and one group size for all layers, and the model has {told}; "
                "take --to compressed-tensors"
            )
        for name, one in schemes.items():
            if one.shape[0] % _WHOLE:
                raise SpecError(
                    f"{name} has {one.shape[0]} outputs, and gptq packs {_WHOLE} together; "
                    "take --to compressed-tensors"
                )

    def specs(self, scheme: Scheme) -> dict[str, TensorSpec]:
        """Dtypes and shapes of a layer's tensors."""
        (m, n), bits = scheme.shape, scheme.bits
        groups = n // scheme.group
        return {
            "qweight": TensorSpec("I32", (n * bits // 32, m)),
            "qzeros": TensorSpec("I32", (groups, m * bits // 32)),
            "scales": TensorSpec("F16", (groups, m)),
            "g_idx": TensorSpec("I32", (n,)),
        }

    def tensor(self, kind: str, weight: Integers) -> NDArray[Any]:
        """One of them."""
        scheme = weight.scheme
        if kind == "qweight":
            return np.ascontiguousarray(packed_words(weight.codes, scheme.bits).T)
        if kind == "scales":
            return np.ascontiguousarray(weight.scales.T)
        m, n = scheme.shape
        if kind == "g_idx":
            return np.arange(n, dtype=np.int32) // np.int32(scheme.group)
        zeros = np.full((n // scheme.group, m), (1 << scheme.bits - 1) - 1, np.uint8)
        return packed_words(zeros, scheme.bits)

    def settings(self, schemes: Mapping[str, Scheme]) -> dict[str, Any]:
        """What both configurations say."""
        one = next(iter(schemes.values()))
        return {
            "quant_method": "gptq",
            "checkpoint_format": "gptq",
            "bits": one.bits,
            "group_size": one.group,
            "desc_act": False,
            "sym": True,
            "lm_head": False,
            "pack_dtype": "int32",
            "meta": {"quantizer": ["lrc-llm"]},
        }

    def files(self, settings: dict[str, Any]) -> dict[str, bytes]:
        """The same once more, where older readers look."""
        return {"quantize_config.json": json_bytes(settings)}


def export_gptq(
    packed_dir: Path | str,
    out_dir: Path | str,
    progress: Progress | None = None,
    *,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Write what ``lrc compress --for gptq`` made: :func:`export_integers`."""
    return export_integers(Gptq(), packed_dir, out_dir, progress, note=note)
