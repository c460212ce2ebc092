"""What a block may learn from on a walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.models.base import Block
from lrc.nn.linear import Linear
from lrc.nn.ops import Values

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Taught:
    """What a block may learn from once its sites were visited.

    Attributes
    ----------
    streams : sequence of pairs
        Of the student and of the original: the residual stream before the block, (b, T, hidden)
        of each chunk, and what else blocks find there.
    targets : sequence of arrays
        The residual stream of each chunk behind the original's block.
    """

    streams: Sequence[tuple[Sequence[F32], Sequence[Values]]]
    targets: Sequence[F32]


#: Adapts a block whose sites were all visited: its place among all blocks, the block with its
#: operations but without its layers, and what teaches it; returns what the student runs, by key.
Learner: TypeAlias = Callable[[int, Block, Taught], Mapping[str, Linear]]
