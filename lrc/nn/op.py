"""What an operation is, and a pass of tokens through a row of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.nn.cache import KVCache
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.rope import Positions, Rope, rope_tables

Array = NDArray[np.float32]
#: Values by name, (B, T, width) each; those of one expert are (rows, width).
Values: TypeAlias = Mapping[str, Array]

#: The residual stream, and what comes of it after the last block.
STREAM, LOGITS = "h", "logits"


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of tokens through a model: what its operations need beside values.

    Attributes
    ----------
    positions : (T,) integers
        Consecutive positions of the tokens.
    cache : KVCache or None
        Receives what later tokens need of these, and holds what they need of earlier ones.
    execution : Execution
    decided : mapping
        Values of another pass of the same tokens, whose decisions this one repeats: which experts
        a token has.
    every : int
        Each expert sees one token in so many beside those that are its own, for what only looks at
        inputs; 0 is none.
    """

    positions: Positions
    cache: KVCache | None = None
    execution: Execution = PLAIN
    decided: Values = field(default_factory=dict)
    every: int = 0
    _angles: dict[Rope, tuple[Array, Array]] = field(default_factory=dict, repr=False)

    def angles(self, rope: Rope) -> tuple[Array, Array]:
        """Cosines and sines at the positions, of a text as long as the cache; looked up once."""
        if rope not in self._angles:
            length = None if self.cache is None else self.cache.max_length
            self._angles[rope] = rope_tables(rope, self.positions, length)
        return self._angles[rope]

    @property
    def sample(self) -> slice:
        """The tokens that every expert sees, of all that there are."""
        return slice(self.every // 2, None if self.every else 0, self.every or None)


class Op:
    """One operation.

    ``name`` is what users are told where it is not compiled. ``reads`` and ``writes`` name values.
    """

    name: ClassVar[str] = "an operation without a name"
    #: Fields that hold the names of the values it needs, and of those it makes or changes.
    needs: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[tuple[str, ...]] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Values that it needs."""
        return self._named(self.needs)

    @property
    def writes(self) -> tuple[str, ...]:
        """Values that it makes or changes."""
        return self._named(self.makes)

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of what it carries from token to token of a text, by name in the cache."""
        return {}

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """What it writes, in the order of ``writes``; arrays of ``values`` stay as they are."""
        raise NotImplementedError

    def _named(self, fields: Iterable[str]) -> tuple[str, ...]:
        found: list[str] = []
        for field_name in fields:
            value = getattr(self, field_name)
            found += [value] if isinstance(value, str) else value
        return tuple(found)


def run(ops: Iterable[Op], values: Values, at: Pass) -> dict[str, Array]:
    """All values after ``ops``, one after the other, beside those given."""
    now = dict(values)
    for op in ops:
        now.update(zip(op.writes, op.run(now, at), strict=True))
    return now
