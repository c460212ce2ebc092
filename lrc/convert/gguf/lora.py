"""LoRA adapters in GGUF files, as llama.cpp has them, over models of this library.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, section on LoRA: of the tensor
NAME there are ``NAME.lora_a`` (r, n) and ``NAME.lora_b`` (m, r), whose product is multiplied by
``adapter.lora.alpha`` over r, where that is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrc.convert.gguf.file import gguf_package
from lrc.convert.gguf.parts import DAMAGE, read_parts
from lrc.convert.gguf.written import GgufModel
from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.models.adapted import Delta, checked_delta
from lrc.models.base import Model
from lrc.models.source import Array
from lrc.models.tensors import Matrix

_SIDES = (".lora_a", ".lora_b")


@dataclass(frozen=True)
class GgufAdapter:
    """An adapter in a GGUF file; nothing is read before `deltas`."""

    path: Path

    def deltas(self, model: Model) -> dict[str, Delta]:
        """What it adds to the matrices of a model, by the name of the tensor.

        Raises
        ------
        LrcError
            The package ``gguf`` is missing.
        FormatError
            The file is missing, damaged or no adapter; or A and B do not fit the model.
        UnsupportedModelError
            It is for another architecture, or adds to something beside linear layers of blocks.
        """
        gguf = gguf_package()
        if not self.path.is_file():
            raise FormatError(f"{self.path} is not a file; expected an adapter in a GGUF file")
        try:
            fields, tensors = read_parts(self.path, gguf)
            values = {
                name: np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32)
                for name, t in tensors.items()
            }
        except LrcError:
            raise
        except DAMAGE as error:
            raise FormatError(f"{self.path} is not a readable GGUF file ({error})") from error
        rules = GgufModel.of(model, gguf)
        self._check(fields, rules.written.architecture)
        alpha = fields.get("adapter.lora.alpha", 0.0)
        if type(alpha) not in (int, float):
            raise FormatError(f"{self.path}: adapter.lora.alpha is {alpha!r:.40}, no number")
        return self._by_name(model, rules, values, float(alpha))

    def _check(self, fields: dict[str, object], architecture: str) -> None:
        """Refuse what is no adapter for models of this architecture."""
        kind = fields.get("general.type"), fields.get("adapter.type")
        if kind != ("adapter", "lora"):
            raise FormatError(f"{self.path} is a GGUF file, but no LoRA adapter: it is {kind}")
        if fields.get("general.architecture") != architecture:
            raise UnsupportedModelError(
                f"{self.path} is for {fields.get('general.architecture')!r:.40}; this model is "
                f"{architecture!r} there"
            )

    def _by_name(
        self, model: Model, rules: GgufModel, values: dict[str, Array], alpha: float
    ) -> dict[str, Delta]:
        names = {
            there: name
            for name, there in rules.names.items()
            if isinstance(model.tensors.read[name].role, Matrix)
        }
        found = {}
        for there in sorted({name.rsplit(".", 1)[0] for name in values}):
            where, pair = f"{self.path}: {there}", [values.get(there + side) for side in _SIDES]
            down, up = pair
            if down is None or up is None or there not in names:
                raise FormatError(
                    f"{where} is not A and B of a linear layer of the blocks; is the adapter of "
                    "another model, or of its tables?"
                )
            name = names[there]
            order, rank = rules.order(name), max(1, len(down))
            scale = alpha / rank if alpha else 1.0
            if order is not None and up.shape[:1] == order.shape:
                back = np.empty_like(up)
                back[order] = up
                up = back
            found[name] = checked_delta(where, down, up, model.tensors.shape(name), scale)
        if not found:
            raise FormatError(f"{self.path} holds no adapter: it has no tensors")
        return found
