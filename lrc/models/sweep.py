"""Many sequences through a model one block at a time, so that no whole model is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import ordered_map
from lrc.models.base import Block, Model
from lrc.models.source import Array, Ids, give_back_pages
from lrc.models.speech import needs_audio
from lrc.nn.memory import MEMORY
from lrc.nn.ops import Values

#: What goes through a model together: token ids (B, T), or the input of each of its stacks.
Part: TypeAlias = Ids | tuple[NDArray[Any], ...]


def sweep(
    model: Model,
    parts: Sequence[Part],
    threads: int,
    progress: Progress = SILENT,
    description: str = "blocks",
) -> list[Array]:
    """Residual streams after the last block, one (B, T, hidden) for each (B, T) of token ids.

    Memory: one block, of a dense model in the type it is stored in, and the streams: 4 bytes a
    token and channel. The result is that of `Model.hidden`, and does not depend on the
    threads.

    Raises
    ------
    SpecError
        The model hears, and token ids are all that is given.
    """
    inputs = [part if isinstance(part, tuple) else (part,) for part in parts]
    if {len(of) for of in inputs} != {len(model.stacks)}:
        raise needs_audio()
    model.check_length(max(of[-1].shape[1] for of in inputs))
    given: list[Values] = [{} for _ in inputs]
    streams: list[Array] = []
    with progress.bar(description, sum(map(len, model.stacks)), "block") as advance:
        for place, stack in enumerate(model.stacks):
            streams = list(ordered_map(stack.start, [of[place] for of in inputs], threads))
            for index in range(len(stack)):
                _through(model, stack.load_block(index), streams, given, threads)
                advance()
            if stack is not model.stacks[-1]:
                given = [{MEMORY: made} for made in ordered_map(stack.finish, streams, threads)]
    return streams


def _through(
    model: Model, block: Block, streams: list[Array], given: Sequence[Values], threads: int
) -> None:
    """Move the streams through one block, in place; nothing of it is left in memory."""

    def work(part: int) -> Array:
        h = streams[part]
        return block(h, np.arange(h.shape[1]), given=given[part])

    for part, moved in enumerate(ordered_map(work, range(len(streams)), threads)):
        streams[part] = moved
    give_back_pages(model.source)
