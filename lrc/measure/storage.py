"""How many bits a stored model spends on a weight, dense or packed."""

from __future__ import annotations

import math
from typing import Any, TypedDict

from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models import declared
from lrc.models.tensors import bias_of, weight_of
from lrc.parts.fields import MATRIX
from lrc.parts.packed import PackedCheckpoint


class Storage(TypedDict):
    """Bits a weight of the linear layers and of the whole file, and the file's bytes.

    Biases of linear layers count where the original has none.
    ``bits_per_weight_linear`` is None when the model has no block that this library knows.
    """

    bits_per_weight_linear: float | None
    bits_per_weight_file: float
    file_bytes: int


def storage(source: Checkpoint | PackedCheckpoint) -> Storage:
    """Measure what ``source`` stores, from the headers of its weight files alone.

    The file's bits count every byte of the weight files, headers included, over every weight
    that is stored, packed or not.
    """
    linear = linear_weights(source)
    weights = sum(math.prod(source.shape(name)) for name in linear)
    bits = 8 * sum(source.stored_bytes(name) for name in (*linear, *_added_biases(source)))
    return Storage(
        bits_per_weight_linear=bits / weights if weights else None,
        bits_per_weight_file=8 * source.nbytes / max(count_weights(source), 1),
        file_bytes=source.nbytes,
    )


def linear_weights(source: Checkpoint | PackedCheckpoint) -> tuple[str, ...]:
    """Names of the weights of the linear layers of all blocks; none where the model is unknown.

    A compressed model says what they are, but for those that stay dense; else it is the model's
    family that does.
    """
    roles = source.roles() if isinstance(source, PackedCheckpoint) else None
    known = [name for name, role in (roles or {}).items() if role == MATRIX]
    try:
        names = [weight_of(name) for name in declared(source.config).matrices]
    except (FormatError, UnsupportedModelError):
        names = []
    return tuple(dict.fromkeys((*known, *(name for name in names if source.has(name)))))


def _added_biases(source: Checkpoint | PackedCheckpoint) -> list[str]:
    """Names of the biases of a compressed model that its original lacks."""
    try:
        known = declared(source.config)
    except (FormatError, UnsupportedModelError):
        return []
    if not isinstance(source, PackedCheckpoint):
        return []
    names = [bias_of(name) for name in known.matrices]
    return [name for name in names if name not in known.read and source.has(name)]


def count_weights(source: Checkpoint | PackedCheckpoint) -> int:
    """Weights of the tensors that ``source`` stores."""
    return sum(math.prod(source.shape(name)) for name in source.names())


def dense_matrices(source: Checkpoint) -> dict[str, dict[str, Any]]:
    """Shape and bits a weight of every matrix of a dense model, by tensor name."""
    shapes = {name: source.shape(name) for name in source.names()}
    return {
        name: {
            "shape": list(shape),
            "dtype": source.info(name).dtype,
            "bits_per_weight": 8 * source.stored_bytes(name) / math.prod(shape),
        }
        for name, shape in shapes.items()
        if len(shape) == 2 and math.prod(shape) > 0
    }
