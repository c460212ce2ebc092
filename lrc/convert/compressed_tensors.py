"""A model as compressed-tensors has it: "pack-quantized" integer weights of vLLM and transformers.

Of a layer are stored, for b bits and groups of g columns:

============= ===== =================== =============================================
tensor        dtype shape               meaning
============= ===== =================== =============================================
weight_packed I32   (m, ceil(n b / 32)) codes c of a row, lowest bit first, no gaps
weight_scale  F16   (m, n / g)          a weight is scale (c - 2^b / 2)
weight_shape  I64   (2,)                m, n
============= ===== =================== =============================================

Source: the package compressed-tensors (0.20), which the tests' golden file was decoded by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.convert.integers import Integers, Progress, Scheme, export_integers, packed_words
from lrc.formats.safetensors.writing import TensorSpec


class PackQuantized:
    """The format."""

    name = "compressed-tensors"

    def check(self, schemes: Mapping[str, Scheme], dense: list[str]) -> None:
        """Everything goes: layers that are not named as targets are dense."""

    def specs(self, scheme: Scheme) -> dict[str, TensorSpec]:
        """Dtypes and shapes of a layer's tensors."""
        m, n = scheme.shape
        return {
            "weight_packed": TensorSpec("I32", (m, -(-n * scheme.bits // 32))),
            "weight_scale": TensorSpec("F16", (m, n // scheme.group)),
            "weight_shape": TensorSpec("I64", (2,)),
        }

    def tensor(self, kind: str, weight: Integers) -> NDArray[Any]:
        """One of them."""
        if kind == "weight_packed":
            return packed_words(weight.codes, weight.scheme.bits)
        if kind == "weight_scale":
            return weight.scales
        return np.array(weight.scheme.shape, np.int64)

    def settings(self, schemes: Mapping[str, Scheme]) -> dict[str, Any]:
        """A group of layers for each width and group size."""
        kinds = sorted({(one.bits, one.group) for one in schemes.values()})
        groups = {}
        for place, (bits, size) in enumerate(kinds):
            own = [name for name, s in schemes.items() if (s.bits, s.group) == (bits, size)]
            groups[f"group_{place}"] = {
                "targets": _targets(own, schemes),
                "weights": _arguments(bits, size),
                "input_activations": None,
                "output_activations": None,
                "format": "pack-quantized",
            }
        return {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": groups,
            "ignore": [],
            "kv_cache_scheme": None,
        }

    def files(self, settings: dict[str, Any]) -> dict[str, bytes]:
        """None."""
        return {}


def _arguments(bits: int, size: int) -> dict[str, Any]:
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": size,
        "dynamic": False,
        "actorder": None,
    }


def _targets(own: list[str], schemes: Mapping[str, Scheme]) -> list[str]:
    """Layers by the last part of their names, where that means no others; else one by one."""
    lasts = sorted({name.rpartition(".")[2] for name in own})
    found = []
    for last in lasts:
        ours = [name for name in own if name.rpartition(".")[2] == last]
        every = [name for name in schemes if name.rpartition(".")[2] == last]
        found += [rf"re:.*\.{last}$"] if len(ours) == len(every) else sorted(ours)
    return found


def export_compressed_tensors(
    packed_dir: Path | str,
    out_dir: Path | str,
    progress: Progress | None = None,
    *,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Write what ``lrc compress --for compressed-tensors`` made: :func:`export_integers`."""
    return export_integers(PackQuantized(), packed_dir, out_dir, progress, note=note)
