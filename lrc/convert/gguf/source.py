"""A GGUF file as the Hugging Face checkpoint that it becomes: configuration, names, values."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.convert.gguf.architectures import architecture, hf_config
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.parts import DAMAGE, read_parts
from lrc.convert.gguf.places import find_places
from lrc.convert.gguf.rope import FACTORS
from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.formats.hub import local_gguf
from lrc.formats.view import stored_shapes
from lrc.models import declared
from lrc.models.views import first_views

#: Tensors that llama.cpp keeps in float32 beside matrices of few bits: routers, state spaces.
_EXACT = re.compile(r"\.ssm_(a|d|conv1d|norm)\b|\.ffn_gate_inp|_norm\.|^position_embd")


class Source:
    """Fields and tensors of a GGUF model, under their Hugging Face names.

    Attributes
    ----------
    fields
        Every key and value of the file.
    config
        ``config.json``, without token ids and dtype.
    shapes
        Those of the checkpoint's tensors, by name.
    """

    def __init__(self, path: Path, gguf: ModuleType) -> None:
        self.path = path
        self.fields, found = read_parts(path, gguf)
        self._dequantize = gguf.quants.dequantize
        self._float32 = gguf.GGMLQuantizationType.F32
        kind = self.fields.get("general.type", "model")
        if kind != "model":
            raise UnsupportedModelError(f"{path} is a GGUF file of type {kind!r}; expected a model")
        name = self.fields.get("general.architecture")
        self._row = architecture(name)
        shapes = {n: tuple(int(d) for d in reversed(t.shape)) for n, t in found.items()}
        factors = {n: np.asarray(found.pop(n).data) for n in FACTORS if n in found}
        meta = Metadata(self.fields, shapes)
        self.config = hf_config(self._row, meta, factors)
        tensors = declared(self.config)
        self.shapes = stored_shapes(first_views(tensors), tensors.shape)
        names = gguf.get_tensor_name_map(_number(gguf, str(name)), meta.count("block_count"))
        self._tensors = found
        self._places = find_places(
            self.shapes,
            {n: shapes[n] for n in found},
            self._row,
            lambda n: names.get_name(n, (".weight", ".bias")),
        )

    @classmethod
    def open(cls, path: Path) -> Source:
        """Read the header of a file, or of any part of a model in several, here or on the hub.

        Raises
        ------
        LrcError
            The package ``gguf`` is missing, or too old.
        FormatError
            The file is missing, damaged or incomplete.
        UnsupportedModelError
            An architecture, a setting or a tensor that is not known.
        """
        try:
            import gguf
        except ImportError as error:
            raise LrcError(
                "reading GGUF needs the package gguf; install it with pip install 'lrc-llm[gguf]'"
            ) from error
        path = local_gguf(path)
        if not path.is_file():
            raise FormatError(f"{path} is not a file; expected a GGUF file")
        try:
            return cls(path, gguf)
        except LrcError:
            raise
        except DAMAGE as error:
            raise FormatError(f"{path} is not a readable GGUF file ({error})") from error

    def wants_float32(self) -> bool:
        """Whether some matrix is stored in float32 that need not be."""
        return any(self._in_float32(t) for n, t in self._tensors.items() if not _EXACT.search(n))

    def stays_float32(self, name: str) -> bool:
        """Whether a tensor is stored in float32 in every file, because it has to be exact."""
        place = self._places[name]
        if place is None or not _EXACT.search(place.name):
            return False
        return self._in_float32(self._tensors[place.name])

    def _in_float32(self, tensor: Any) -> bool:
        return bool(tensor.tensor_type == self._float32 and len(tensor.shape) > 1)

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor, decoded, as Hugging Face has it.

        Raises
        ------
        FormatError
            It has values that are not finite.
        UnsupportedModelError
            It is of a type that the package ``gguf`` does not decode.
        """
        place = self._places[name]
        if place is None:
            return np.zeros(self.shapes[name], np.float32)
        tensor = self._tensors[place.name]
        data = tensor.data if place.part is None else tensor.data[place.part]
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused
                values = self._dequantize(data, tensor.tensor_type)
        except NotImplementedError as error:
            raise UnsupportedModelError(f"{self.path}: {name}: {error}") from error
        with np.errstate(all="ignore"):
            values = self._row.restore(name, np.asarray(values, np.float32), self.config)
        if not np.isfinite(values).all():
            raise FormatError(f"{self.path}: {name} has NaN or infinite values")
        return values.reshape(self.shapes[name])


def _number(gguf: ModuleType, name: str) -> Any:
    """The number that the package has for an architecture."""
    for number, known in gguf.MODEL_ARCH_NAMES.items():
        if known == name:
            return number
    raise LrcError(f"the package gguf does not know {name!r}; install a newer one")
