"""Write the weights of a Hugging Face directory: one safetensors file, or shards and an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lrc.base.atomic import json_bytes
from lrc.formats.safetensors.checkpoint import INDEX, SINGLE
from lrc.formats.safetensors.writing import TensorSpec, stream_safetensors, write_order

#: Largest file written before the weights are split.
MAX_SHARD_BYTES = 4 * 2**30
#: What transformers expects to find in every file.
METADATA = {"format": "pt"}


def write_weights(
    directory: Path,
    specs: Mapping[str, TensorSpec],
    read: Callable[[str], NDArray[Any]],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write all tensors, holding one in memory at a time.

    Parameters
    ----------
    directory
        An existing directory.
    specs
        Stored dtype and shape of every tensor.
    read
        Gives the array of a name, in the dtype of its spec.
    max_shard_bytes
        Tensors are packed, in the order of ``specs``, into files of at most this size; a
        larger tensor has a file of its own.
    """
    shards = _split(specs, max_shard_bytes)
    names = _file_names(len(shards))
    for file, shard in zip(names, shards, strict=True):
        part = {name: specs[name] for name in shard}
        stream_safetensors(directory / file, part, map(read, write_order(part)), METADATA)
    if len(shards) > 1:
        weight_map = {n: file for file, shard in zip(names, shards, strict=True) for n in shard}
        total = sum(spec.nbytes for spec in specs.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX).write_bytes(json_bytes(index))


def _split(specs: Mapping[str, TensorSpec], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, spec in specs.items():
        if shards[-1] and size + spec.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += spec.nbytes
    return shards


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
