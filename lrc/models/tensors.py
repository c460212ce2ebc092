"""What a family says of the tensors of its checkpoints: small records, one a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lrc.formats.view import View
from lrc.parts.fields import EMBEDDING as EMBEDDING
from lrc.parts.fields import HEAD as HEAD

_WEIGHT, _BIAS = ".weight", ".bias"
#: Key of the head's bias, outside the blocks.
HEAD_BIAS = "head.bias"


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
    """A norm, a bias or what else is small, kept as it is.

    ``block`` is None outside the blocks. ``key`` is its name within the block, or the model: that
    of a bias is the key of its linear layer and ``.bias``.
    """

    block: int | None
    key: str


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
    """A tensor that the model reads.

    ``layouts``: where a dense checkpoint may hold it, the usual place first; under its own name, as
    it is, where none is given. Several tensors may lie in one that is stored.
    """

    shape: tuple[int, ...]
    role: Matrix | Table | Plain
    layouts: tuple[View, ...] = ()


@dataclass(frozen=True)
class Tensors:
    """Every tensor of a checkpoint: those that are ``read``, by name, and which are ``ignored``.

    A name that is neither is refused. ``added`` are those that are read and that ``config.json``
    knows nothing of.
    """

    read: Mapping[str, Tensor]
    ignored: Callable[[str], Ignored | None]
    added: frozenset[str] = frozenset()

    def role(self, name: str) -> Matrix | Table | Plain | Ignored | None:
        """What the tensor ``name`` is; None where it has no place in the model."""
        return self.read[name].role if name in self.read else self.ignored(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor that is read."""
        return self.read[name].shape

    @cached_property
    def matrices(self) -> dict[str, Matrix]:
        """Every matrix by the name of its linear layer, bottom first."""
        roles = {linear_of(name): tensor.role for name, tensor in self.read.items()}
        return {name: role for name, role in roles.items() if isinstance(role, Matrix)}

    @cached_property
    def tables(self) -> dict[str, str]:
        """Names of the tables that are stored, by role; no head where it is the embedding."""
        roles = {name: tensor.role for name, tensor in self.read.items()}
        return {role.role: name for name, role in roles.items() if isinstance(role, Table)}

    @cached_property
    def blocks(self) -> int:
        """Blocks that have matrices."""
        return 1 + max((matrix.block for matrix in self.matrices.values()), default=-1)

    def linears(self, block: int) -> dict[str, str]:
        """Names of the matrices of a block, by key."""
        return {m.key: weight_of(name) for name, m in self.matrices.items() if m.block == block}

    def plain(self, block: int | None) -> dict[str, str]:
        """Names of the norms and biases of a block, or of those outside all of them, by key."""
        return self._plain.get(block, {})

    @cached_property
    def _plain(self) -> dict[int | None, dict[str, str]]:
        found: dict[int | None, dict[str, str]] = {}
        for name, tensor in self.read.items():
            if isinstance(tensor.role, Plain):
                found.setdefault(tensor.role.block, {})[tensor.role.key] = name
        return found


def linear_of(tensor: str) -> str:
    """Name of the linear layer that a tensor is the weight of, as `lrc.spec` calls it.

    Examples
    --------
    >>> linear_of("blocks.3.up.weight")
    'blocks.3.up'
    """
    return tensor.removesuffix(_WEIGHT)


def weight_of(linear: str) -> str:
    """Name of the tensor that holds the weight of a linear layer."""
    return linear + _WEIGHT


def bias_of(linear: str) -> str:
    """Name of the tensor that holds the bias of a linear layer, where it has one."""
    return linear + _BIAS


def bias_key(matrix: Matrix) -> str:
    """Key of the bias of a linear layer within its block."""
    return matrix.key + _BIAS
