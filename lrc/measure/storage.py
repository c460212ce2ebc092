"""How many bits a stored model spends on a weight, dense or packed."""

from __future__ import annotations

import math
from typing import Any, TypedDict

from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.parts.packed import PackedCheckpoint


class Storage(TypedDict):
    """Bits a weight of the linear layers and of the whole file, and the file's bytes.

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
    shapes = {name: source.shape(name) for name in source.names()}
    linear = [name for name, shape in shapes.items() if is_block_linear(name, shape)]
    linear_weights = sum(math.prod(shapes[name]) for name in linear)
    linear_bits = 8 * sum(source.stored_bytes(name) for name in linear)
    return Storage(
        bits_per_weight_linear=linear_bits / linear_weights if linear_weights else None,
        bits_per_weight_file=8 * source.nbytes / max(count_weights(source), 1),
        file_bytes=source.nbytes,
    )


def count_weights(source: Checkpoint | PackedCheckpoint) -> int:
    """Weights of the tensors that ``source`` stores."""
    return sum(math.prod(source.shape(name)) for name in source.names())


def is_block_linear(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is the weight of a linear layer inside a block.

    Examples
    --------
    >>> is_block_linear("model.layers.0.mlp.up_proj.weight", (1536, 576))
    True
    >>> is_block_linear("model.embed_tokens.weight", (49152, 576))
    False
    """
    return name.startswith("model.layers.") and name.endswith(".weight") and len(shape) == 2


def dense_matrices(source: Checkpoint) -> dict[str, dict[str, Any]]:
    """Shape and bits a weight of every matrix of a dense model, by tensor name."""
    infos = {name: source.info(name) for name in source.names()}
    return {
        name: {
            "shape": list(info.shape),
            "dtype": info.dtype,
            "bits_per_weight": 8 * info.nbytes / math.prod(info.shape),
        }
        for name, info in infos.items()
        if len(info.shape) == 2 and math.prod(info.shape) > 0
    }
