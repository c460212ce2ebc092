"""An adapter as a directory that PEFT reads: ``adapter_config.json`` and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_directory, json_bytes
from lrc.errors import UnsupportedModelError
from lrc.formats.safetensors.writing import check_written, write_safetensors
from lrc.models.base import Model
from lrc.models.opened import open_model
from lrc.models.tensors import linear_of
from lrc.models.views import first_views
from lrc.refine.adapter import Factors

_PREFIX, _WEIGHT = "base_model.model.", ".weight"


def stored_names(folder: Path) -> dict[str, str]:
    """:func:`names_of` the model in a directory."""
    return names_of(open_model(folder)[0])


def names_of(model: Model) -> dict[str, str]:
    """What the matrices of a model, by name, are called in Hugging Face's.

    Raises
    ------
    UnsupportedModelError
        One is no tensor of its own there: it lies transposed, or together with others.
    """
    found = {}
    for name, view in first_views(model.tensors).items():
        if linear_of(name) not in model.tensors.matrices:
            continue
        if not view.is_whole:
            raise UnsupportedModelError(
                f"{name} is a part of {view.stored} in models of this family, or transposed there: "
                "an adapter for PEFT cannot be written"
            )
        found[name] = view.stored
    return found


def write_adapter(
    out: Path,
    factors: Mapping[str, Factors],
    names: Mapping[str, str],
    base: str,
    dtype: type[np.floating[Any]] = np.float16,
) -> Path:
    """Write an adapter.

    Parameters
    ----------
    out : Path
        Made by this call; must not exist.
    factors : mapping
        By name of the matrix.
    names : mapping
        What these are called in the model that ``lrc export --to hf`` writes: `stored_names`.
    base : str
        What is said to be the model beneath.
    dtype
        float16 or float32.

    Raises
    ------
    OutputError
        ``out`` exists or cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {}
    factors = {names[name]: pair for name, pair in factors.items()}
    for name, (down, up) in factors.items():
        module = _PREFIX + name.removesuffix(_WEIGHT)
        tensors[f"{module}.lora_A.weight"] = down.astype(dtype)
        tensors[f"{module}.lora_B.weight"] = np.ascontiguousarray(up.T).astype(dtype)
    with atomic_directory(out) as work:
        path = work / "adapter_model.safetensors"
        write_safetensors(path, tensors, {"format": "pt"})
        check_written(path, tensors)
        (work / "adapter_config.json").write_bytes(json_bytes(_config(factors, base)))
    return out


def _config(factors: Mapping[str, Factors], base: str) -> dict[str, Any]:
    """What PEFT is told: a scale of 1, and where ranks differ, each matrix's own."""
    names = [name.removesuffix(_WEIGHT) for name in factors]
    ranks = {name: len(one.down) for name, one in zip(names, factors.values(), strict=True)}
    rank = max(ranks.values())
    others = {name: found for name, found in ranks.items() if found != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted({name.rpartition(".")[2] for name in names}),
    }
