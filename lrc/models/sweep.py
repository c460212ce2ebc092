"""Many sequences through a model one block at a time, so that no whole model is in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import ordered_map
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.base import Model
from lrc.models.source import Array, Ids


def sweep(
    model: Model,
    parts: Sequence[Ids],
    threads: int,
    progress: Progress = SILENT,
    description: str = "blocks",
) -> list[Array]:
    """Residual streams after the last block, one (B, T, hidden) for each (B, T) of token ids.

    Memory: one block, of a dense model in the type it is stored in, and the streams: 4 bytes a
    token and channel. The result is that of `Model.hidden`, and does not depend on the
    threads.
    """
    (stack,) = model.stacks
    model.check_length(max(ids.shape[1] for ids in parts))
    positions = np.arange(max(ids.shape[1] for ids in parts))
    streams = list(ordered_map(stack.start, parts, threads))
    with progress.bar(description, len(stack), "block") as advance:
        for index in range(len(stack)):
            _through(model, index, streams, positions, threads)
            advance()
    return streams


def _through(model: Model, index: int, streams: list[Array], positions: Ids, threads: int) -> None:
    """Move the streams through one block, in place; nothing of it is left in memory."""
    (stack,) = model.stacks
    block = stack.load_block(index)

    def work(h: Array) -> Array:
        return block(h, positions[: h.shape[1]])

    for part, moved in enumerate(ordered_map(work, streams, threads)):
        streams[part] = moved
    if isinstance(model.source, Checkpoint):
        release_pages(model.source.shards.values())
