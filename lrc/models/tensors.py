"""What a family says of the tensors of its checkpoints: small records, one a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Matrix:
    """The weight of a linear layer, which is compressed.

    ``block`` counts from 0, ``site`` names the place whose activations it multiplies, ``key`` is
    its name within the block, without ``.weight``.
    """

    block: int
    site: str
    key: str


@dataclass(frozen=True)
class Table:
    """A row for each token: ``role`` is ``embedding`` or ``head``."""

    role: str


@dataclass(frozen=True)
class Plain:
    """A norm or a bias, kept as it is."""


@dataclass(frozen=True)
class Ignored:
    """A tensor that the model does not read, and why.

    ``same_as`` names the tensor that it has to equal, where it must. A reader is told of those
    that are ``told``: what is left out is then more than a copy of what the model has anyway.
    """

    reason: str
    same_as: str = ""
    told: bool = False


@dataclass(frozen=True)
class Tensor:
    """A tensor that the model reads; ``stand_in`` may be stored in its place."""

    shape: tuple[int, ...]
    role: Matrix | Table | Plain
    stand_in: str = ""


@dataclass(frozen=True)
class Tensors:
    """Every tensor of a checkpoint: those that are ``read``, by name, and which are ``ignored``.

    A name that is neither is refused.
    """

    read: Mapping[str, Tensor]
    ignored: Callable[[str], Ignored | None]

    def role(self, name: str) -> Matrix | Table | Plain | Ignored | None:
        """What the tensor ``name`` is; None where it has no place in the model."""
        return self.read[name].role if name in self.read else self.ignored(name)
