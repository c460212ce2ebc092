"""Where the weights of a model come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError, SpecError
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.nn.linear import LaterLinear, Linear, make_linear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lrc.formats.stored import StoredMatrix
    from lrc.formats.view import View
    from lrc.parts.matrix import PackedMatrix

Array = NDArray[np.float32]
Ids = NDArray[np.integer]
#: A matrix or a table: as float32, packed, or left as it is stored.
Weight: TypeAlias = "Array | PackedMatrix | StoredMatrix"


class WeightSource(Protocol):
    """Named weights and the configuration they belong to: a dense or a packed checkpoint."""

    @property
    def path(self) -> Path:
        """Where it lies; named in errors."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The parsed ``config.json``."""
        ...

    @property
    def is_as_read(self) -> bool:
        """Whether tensors are those that a model reads, not as some file lays them out."""
        ...

    def reading(self, views: Mapping[str, View]) -> WeightSource:
        """The same source with no other tensors than these, by name: where each lies."""
        ...

    def names(self) -> tuple[str, ...]:
        """Names of all that is stored."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor ``name``, from a header."""
        ...

    def has(self, name: str) -> bool:
        """Whether the tensor ``name`` is stored."""
        ...

    def dense(self, name: str) -> Array:
        """Read the tensor ``name`` as float32."""
        ...

    def linear(self, name: str) -> Array | PackedMatrix:
        """Read the matrix ``name``, packed where it is stored packed."""
        ...


def read_linear(
    source: WeightSource,
    read: Callable[[str], Weight],
    name: str,
    bias: Array | None,
    *,
    later: bool,
) -> Linear:
    """The linear layer on the matrix ``name``, which ``read`` reads.

    ``later``: of a dense checkpoint, when it is first looked at.
    """
    if not later or not isinstance(source, Checkpoint):
        return make_linear(read(name), bias)
    m, n = source.shape(name)
    return LaterLinear(lambda: source.linear(name), (m, n), bias)


def give_back_pages(source: WeightSource) -> None:
    """Let the system take back what is mapped of a dense checkpoint: it counts as memory."""
    if isinstance(source, Checkpoint):
        release_pages(source.shards.values())


def check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a tensor whose shape is not what the configuration implies.

    Raises
    ------
    FormatError
        Naming the tensor and both shapes.
    """
    if tuple(got) != expected:
        raise FormatError(
            f"tensor {name} has shape {tuple(got)} and config.json implies {expected}; "
            "the weights and the configuration do not belong together"
        )


def check_ids(ids: Ids, vocab: int) -> None:
    """Refuse token ids outside a vocabulary.

    Raises
    ------
    SpecError
        With the range found and the range known.
    """
    if ids.size and not (int(ids.min()) >= 0 and int(ids.max()) < vocab):
        raise SpecError(
            f"token ids run from {ids.min()} to {ids.max()}, but the model knows "
            f"0 to {vocab - 1}; does the tokenizer belong to this model?"
        )
