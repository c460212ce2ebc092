"""The quantizer ``lrc`` of transformers, and what opens our directories with it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrc.convert.biases import config_with_biases
from lrc.errors import SpecError, UnsupportedModelError
from lrc.hf.layer import layer_class
from lrc.hf.places import Places, dense_tensors, packed_layers, places
from lrc.models.base import Model
from lrc.models.opened import open_model
from lrc.parts.fields import MANIFEST
from lrc.parts.packed import PackedCheckpoint

_log = logging.getLogger(__name__)
#: What transformers calls the method.
NAME = "lrc"
#: Layers whose products are linear, by the names of their classes.
_LINEAR = ("Linear", "Conv1D")


def is_packed_directory(path: Any) -> bool:
    """Whether ``path`` is a directory that ``lrc compress`` made.

    Examples
    --------
    >>> is_packed_directory("somebody/model"), is_packed_directory(None)
    (False, False)
    """
    return isinstance(path, str | Path) and (Path(path) / MANIFEST).is_file()


class Replacing:
    """What the quantizer does: layers of a fresh model give way to packed ones.

    ``quantization_config`` is set by transformers; it has the directory, ``path``.
    """

    quantization_config: Any

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Refuse devices: the kernels run on the CPU.

        Raises
        ------
        SpecError
            Another device is asked for.
        """
        asked = device_map.values() if isinstance(device_map, dict) else [device_map]
        for device in asked:
            if str(device) not in ("None", "cpu", "auto"):
                raise SpecError(f"device_map={device_map!r}: lrc runs on the CPU; leave it out")

    def update_device_map(self, device_map: Any) -> Any:
        """The CPU, whatever would be found."""
        return None if device_map in (None, "auto") else device_map

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        opened, source = open_model(self.quantization_config.path)
        assert isinstance(source, PackedCheckpoint)
        found = _places(opened, source, model)
        for name, matrices in packed_layers(source, found).items():
            layer = layer_class()()
            bias = model.get_submodule(name).bias
            layer.hold(matrices, bias, transposed=name in found.transposed)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer)
        return model

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """Never: ``lrc export`` writes models for others."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Codes are not trained: see ``lrc tune``."""
        return False


def _places(model: Model, source: PackedCheckpoint, theirs: Any) -> Places:
    modules = dict(theirs.named_modules())
    beginnings = ("", theirs.base_model_prefix + ".")

    def layer_of(stored: str) -> str | None:
        if not stored.endswith(".weight"):
            return None
        tried = (begin + stored.removesuffix(".weight") for begin in beginnings)
        return next((t for t in tried if type(modules.get(t)).__name__ in _LINEAR), None)

    return places(model, source, layer_of)


@functools.cache
def register() -> None:
    """Make the quantizer known to transformers, and have it open our directories.

    Raises
    ------
    ImportError
        transformers or torch is missing.
    """
    import transformers
    from transformers.quantizers import HfQuantizer
    from transformers.quantizers.auto import register_quantization_config, register_quantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin

    def begin(self: Any, path: str = "", **kwargs: Any) -> None:
        self.quant_method, self.path = NAME, str(path)

    config = type("LrcConfig", (QuantizationConfigMixin,), {"__init__": begin})
    register_quantization_config(NAME)(config)
    register_quantizer(NAME)(type("LrcQuantizer", (Replacing, HfQuantizer), {}))
    usual = transformers.PreTrainedModel.from_pretrained.__func__

    @functools.wraps(usual)
    def from_pretrained(cls: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_packed_directory(path) or kwargs.get("state_dict") is not None:
            return usual(cls, path, *args, **kwargs)
        asked = kwargs.pop("output_loading_info", False)
        given = _arguments(cls, Path(path), config, kwargs)
        model, info = usual(cls, None, *args, **given, output_loading_info=True)
        refuse_missing(path, info)
        return (model, info) if asked else model

    transformers.PreTrainedModel.from_pretrained = classmethod(from_pretrained)


def refuse_missing(path: Any, info: Mapping[str, Any]) -> None:
    """Refuse a model of which something was not loaded: that would be random.

    Raises
    ------
    UnsupportedModelError
        Naming the first tensor.
    """
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise UnsupportedModelError(
            f"{path} has no values for {missing[0]} of transformers' model, and {len(missing) - 1} "
            "more: its layout there is not known; lrc export --to hf writes one that is"
        )


def _arguments(cls: Any, path: Path, kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What it has to be told of a directory of ours; floats of 32 bits unless others are asked for.

    What is no packed layer goes along as a state.
    """
    import torch
    import transformers

    model, source = open_model(path)
    assert isinstance(source, PackedCheckpoint)
    config = given.pop("config", None)
    if not isinstance(config, transformers.PreTrainedConfig):
        config = cls.config_class.from_pretrained(path)
    biased = config_with_biases(source.config, model.tensors)
    for key in biased.keys() & source.config.keys():
        if biased[key] != source.config[key]:
            setattr(config, key, biased[key])
    if not {"dtype", "torch_dtype"} & given.keys():
        given["dtype"] = torch.float32
    if (path / "generation_config.json").is_file():
        default = transformers.GenerationConfig.from_pretrained(path)
        given.setdefault("generation_config", default)
    with torch.device("meta"):
        empty = cls(config)
    found = _places(model, source, empty)
    _log.info("%s: %d layers are packed, %d tensors decoded", path, len(found.layers),
              len(found.dense))  # fmt: skip
    weights = dense_tensors(model, source, found)
    state = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in weights.items()}
    return {**given, "config": config, "state_dict": state, "quantization_config": kind(path)}
