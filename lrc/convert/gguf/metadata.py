"""The settings of the model in a GGUF file: read by key, and none left that nobody read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrc.errors import FormatError, UnsupportedModelError

Shapes = Mapping[str, tuple[int, ...]]

#: Keys that change nothing that is computed here.
_HARMLESS = {
    "tensor_data_layout",  # whatever it says, rows are in the order that llama.cpp reads
    "rope.scaling.finetuned",
}
#: Keys of what some models have, and the values that say that this one has it not.
_OFF: dict[str, tuple[object, ...]] = {
    "attention.causal": (True,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "expert_gating_func": (1,),  # softmax
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
}


class Metadata:
    """Values under the keys of one architecture, such as ``llama.block_count``.

    Parameters
    ----------
    fields
        Every key and value of the file.
    shapes
        NumPy shapes of its tensors, by GGUF name.
    """

    def __init__(self, fields: Mapping[str, Any], shapes: Shapes) -> None:
        self.architecture = str(fields.get("general.architecture"))
        self.shapes = shapes
        prefix = f"{self.architecture}."
        self._own = {k.removeprefix(prefix): v for k, v in fields.items() if k.startswith(prefix)}
        self._unread = set(self._own)

    def get(self, key: str) -> Any:
        """The value as it is, or None."""
        self._unread.discard(key)
        return self._own.get(key)

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """An integer of at least ``least``.

        Raises
        ------
        FormatError
            It is something else, or missing without a default.
        """
        value = self.get(key)
        value = default if value is None else value
        if type(value) is not int or value < least:
            raise FormatError(
                f"{self.architecture}.{key} is {value!r} in the GGUF file; expected an integer "
                f">= {least}"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number above 0, as the shortest decimal of its float32: 1e-05.

        Raises
        ------
        FormatError
            It is something else, or missing without a default.
        """
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
            raise FormatError(
                f"{self.architecture}.{key} is {value!r} in the GGUF file; expected a number > 0"
            )
        return shortest(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false.

        Raises
        ------
        FormatError
            It is something else.
        """
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise FormatError(f"{self.architecture}.{key} is {value!r} in the GGUF file")
        return value

    def has(self, tensor: str) -> bool:
        """Whether the file has a tensor of this GGUF name."""
        return tensor in self.shapes

    def rows(self, tensor: str) -> int:
        """Rows of a matrix, or of each in a stack; 0 where the file has none of this name."""
        return self.shapes.get(tensor, (0, 0))[-2]

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding.

        Raises
        ------
        FormatError
            There is no embedding, or ``vocab_size`` differs.
        """
        rows = self.shapes.get("token_embd.weight", (0,))[0]
        given = self.get("vocab_size")
        if given not in (None, rows) or rows < 1:
            raise FormatError(
                f"the GGUF file has {rows} rows of embeddings but {self.architecture}.vocab_size "
                f"{given}"
            )
        return rows

    @property
    def tied(self) -> bool:
        """Whether the embedding is the head, too."""
        return not self.has("output.weight")

    def refuse_unread(self) -> None:
        """Refuse keys that nothing has read, unless they are harmless or off.

        Raises
        ------
        UnsupportedModelError
            There is such a key.
        """
        for key in sorted(self._unread - _HARMLESS):
            if self._own[key] not in _OFF.get(key, ()):
                raise UnsupportedModelError(
                    f"the GGUF setting {self.architecture}.{key}={self._own[key]!r:.60} is not "
                    "supported"
                )


def shortest(value: float) -> float:
    """Shortest decimal of a float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
