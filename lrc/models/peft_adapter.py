"""LoRA adapters as directories of PEFT: ``adapter_config.json`` and ``adapter_model.safetensors``.

Layout and scales: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrc.base.strict_json import read_object
from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.view import View
from lrc.models.adapted import Delta, checked_delta
from lrc.models.base import Model
from lrc.models.tensors import Matrix, weight_of
from lrc.models.views import layouts

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
#: Of a factor's name: module, side, and the adapter's name where one is stored.
_FACTOR = re.compile(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight")
#: What an adapter may have beside A and B, and the values that say that it has it not.
_OFF: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "bias": ("none",),
    "lora_bias": (False,),
    "modules_to_save": ([],),
    "layer_replication": ([],),
    "trainable_token_indices": ([], {}),
    "target_parameters": ([],),
    "alora_invocation_tokens": ([],),
}
_MOST_RANK = 1 << 20
_MOST_ALPHA = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class PeftAdapter:
    """An adapter of PEFT; nothing is read before `deltas`."""

    path: Path

    def deltas(self, model: Model) -> dict[str, Delta]:
        """What it adds to the matrices of a model, by the name of the tensor.

        Raises
        ------
        FormatError
            A file is missing or malformed; or A and B do not fit the model, or one another.
        UnsupportedModelError
            It is no LoRA, or does more than add A and B to linear layers of blocks.
        """
        config = read_object(self.path / CONFIG)
        self._check(config)
        file = SafetensorsFile(self.path / WEIGHTS)
        places = _places(model)
        found = {}
        for module, names in self._modules(file).items():
            if module not in places:
                raise FormatError(
                    f"{self.path / WEIGHTS}: {module} is no linear layer of the blocks of "
                    f"{model.source.path}; is the adapter of another model, or of its tables?"
                )
            where = f"{self.path / WEIGHTS}: {module}"
            down, up = (np.array(file.float32(names[side])) for side in "AB")
            scale = self._scale(config, module, down)
            for name, view in places[module]:
                rows = up if view.rows is None else up[slice(*view.rows)]
                found[name] = checked_delta(where, down, rows, model.tensors.shape(name), scale)
            whole = sum(model.tensors.shape(name)[0] for name, _ in places[module])
            if up.ndim != 2 or len(up) != whole:
                raise FormatError(f"{where}: B has shape {up.shape}; expected ({whole}, r)")
        return found

    def _check(self, config: Mapping[str, Any]) -> None:
        """Refuse what is not A and B alone."""
        kind = config.get("peft_type")
        if kind != "LORA":
            raise UnsupportedModelError(
                f"{self.path / CONFIG}: peft_type={kind!r:.40} is not supported; only LORA is"
            )
        for key, allowed in _OFF.items():
            if config.get(key) is not None and config[key] not in allowed:
                raise UnsupportedModelError(
                    f"{self.path / CONFIG}: {key}={config[key]!r:.60} is not supported; merge the "
                    "adapter into the dense model, and compress that"
                )

    def _modules(self, file: SafetensorsFile) -> dict[str, dict[str, str]]:
        """Names of A and B, by module."""
        found: dict[str, dict[str, str]] = {}
        for name in file.names:
            match = _FACTOR.fullmatch(name)
            if match is None:
                raise UnsupportedModelError(
                    f"{file.path} has {name!r}, which is neither A nor B of a linear layer"
                )
            sides = found.setdefault(match[1].removeprefix(_PREFIX), {})
            if match[2] in sides:
                raise FormatError(f"{file.path} has two adapters of {match[1]}; give one at a time")
            sides[match[2]] = name
        for module, sides in found.items():
            if len(sides) != 2:
                raise FormatError(f"{file.path} has A or B alone of {module}; fetch it again")
        if not found:
            raise FormatError(f"{file.path} holds no adapter: it has no tensors")
        return found

    def _scale(self, config: Mapping[str, Any], module: str, down: np.ndarray) -> float:
        """Alpha over the rank, or over its root."""
        rank = _of_module(config, "rank_pattern", module, config.get("r"))
        alpha = _of_module(config, "alpha_pattern", module, config.get("lora_alpha"))
        if type(rank) is not int or not 0 < rank <= _MOST_RANK or rank != len(down):
            raise FormatError(
                f"{self.path / CONFIG} gives {module} the rank {rank!r:.40}, and its A in "
                f"{WEIGHTS} has {len(down)}; the two do not belong together"
            )
        if type(alpha) not in (int, float):
            raise FormatError(f"{self.path / CONFIG}: lora_alpha={alpha!r:.40} is no number")
        if not abs(alpha) <= _MOST_ALPHA:
            raise FormatError(f"{self.path / CONFIG}: lora_alpha={alpha!r:.40} is not finite")
        return float(alpha) / (rank**0.5 if config.get("use_rslora") is True else rank)


def _of_module(config: Mapping[str, Any], key: str, module: str, usual: Any) -> Any:
    """A value of one module: that of the first name that its own ends with, or is behind a ``^``.

    Raises
    ------
    FormatError
        There are no such patterns.
    """
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise FormatError(f"{CONFIG}: {key} is no object")
    for pattern, value in patterns.items():
        if module == pattern.removeprefix("^") or module.endswith("." + pattern):
            return value
    for pattern, value in patterns.items():
        if not re.fullmatch(r"\^?[\w.]+", pattern):
            raise UnsupportedModelError(
                f"{CONFIG}: the pattern {pattern!r:.60} of {key} is not supported; names are"
            )
        del value
    return usual


def _places(model: Model) -> dict[str, list[tuple[str, View]]]:
    """The model's matrices, and the rows that they are, by modules of transformers."""
    found: dict[str, list[tuple[str, View]]] = {}
    for name, tensor in model.tensors.read.items():
        if not isinstance(tensor.role, Matrix):
            continue
        for view in layouts(name, model.tensors):
            if view.index is None:
                found.setdefault(view.stored.removesuffix(weight_of("")), []).append((name, view))
    return found
