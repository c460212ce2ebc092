"""A block as its operations: run at once, or site by site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

from lrc.errors import SpecError
from lrc.models.base import Site
from lrc.models.source import Array
from lrc.nn.cache import KVCache
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import Linear
from lrc.nn.ops import STREAM, Multiply, Op, Pass, Values, run
from lrc.nn.rope import Positions
from lrc.nn.routing import Dispatch


@dataclass(frozen=True)
class _Stretch:
    """Operations from one site to the next, and the values that those after them read."""

    ops: tuple[Op, ...]
    kept: frozenset[str]

    def swapped(self, swap: Mapping[int, Linear]) -> _Stretch:
        """The same with other linear layers in place of those of these identities."""
        first = self.ops[0] if self.ops else None
        if not isinstance(first, Multiply) or not any(id(f) in swap for f in first.linears):
            return self
        linears = tuple(swap.get(id(f), f) for f in first.linears)
        return replace(self, ops=(replace(first, linears=linears), *self.ops[1:]))


@dataclass(frozen=True)
class ProgramBlock:
    """A block over its linear layers and its other tensors; a family's says what it computes.

    A block only reads itself, so threads may share it.

    Attributes
    ----------
    config
        The family's.
    index : int
        Of the block.
    linears, plain : mapping
        Keyed as in the checkpoint, without prefix and ``.weight``.
    """

    config: Any
    index: int
    linears: Mapping[str, Linear]
    plain: Mapping[str, Array]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Its sites: as many as its operations have `Multiply`, and in their order."""
        raise NotImplementedError

    def program(self) -> Sequence[Op]:
        """What the block computes, from the residual stream to the residual stream."""
        raise NotImplementedError

    def ops(self) -> tuple[Op, ...]:
        """The same, made once."""
        return tuple(op for stretch in self._stretches for op in stretch.ops)

    def layers_of(self, site_index: int) -> Multiply:
        """The linear layers of a site, as the operation that they are."""
        first = self._stretches[site_index + 1].ops[0]
        assert isinstance(first, Multiply)
        return first

    def enter(self, given: Values, at: Pass) -> dict[str, Array]:
        """Values before the first site, from the residual stream and what else is given."""
        return self._run(0, given, at)

    def step(self, site_index: int, values: Values, at: Pass) -> dict[str, Array]:
        """Values before the next site: the linear layers of one, and all that lies between."""
        return self._run(site_index + 1, values, at)

    def __call__(
        self,
        h: Array,
        positions: Positions,
        cache: KVCache | None = None,
        execution: Execution = PLAIN,
        *,
        given: Values = MappingProxyType({}),
    ) -> Array:
        """Residual stream after the block, (B, T, hidden); ``given`` is what else it finds."""
        values, at = {**given, STREAM: h}, Pass(positions, cache, execution)
        for index in range(len(self._stretches)):
            values = self._run(index, values, at)
        return values[STREAM]

    def with_linears(self, new: Mapping[str, Linear]) -> Self:
        """Return the same block with some linears replaced.

        Raises
        ------
        SpecError
            When a key is none of the block's linears.
        """
        unknown = sorted(set(new) - set(self.linears))
        if unknown:
            raise SpecError(
                f"no linear layer is called {', '.join(unknown)}; "
                f"the block has {', '.join(self.linears)}"
            )
        made = replace(self, linears={**self.linears, **new})
        swap = {id(self.linears[key]): linear for key, linear in new.items()}
        if len({id(linear) for linear in self.linears.values()}) == len(self.linears):
            # A mixture has hundreds of sites, replaced one by one: what is known of others stays.
            made.__dict__["_stretches"] = tuple(s.swapped(swap) for s in self._stretches)
        return made

    def multiply(
        self, site_index: int, source: str, *targets: str, dispatch: Dispatch | None = None
    ) -> Multiply:
        """The linear layers of a site as an operation."""
        linears = tuple(self.linears[key] for key in self.sites[site_index].linears)
        return Multiply(linears, source, targets, dispatch)

    def _run(self, index: int, values: Values, at: Pass) -> dict[str, Array]:
        stretch = self._stretches[index]
        found = run(stretch.ops, values, at)
        return {name: value for name, value in found.items() if name in stretch.kept}

    @cached_property
    def _stretches(self) -> tuple[_Stretch, ...]:
        """What comes before the first site, and from each on; nothing is kept that none reads."""
        stretches, after, needed = [], list[Op](), frozenset({STREAM})
        for op in reversed(tuple(self.program())):
            after.append(op)
            if isinstance(op, Multiply):
                stretches.append(_Stretch(tuple(reversed(after)), needed))
                needed, after = _read_in(stretches[-1].ops, needed), []
        stretches.append(_Stretch(tuple(reversed(after)), needed))
        return tuple(reversed(stretches))


def _read_in(ops: Sequence[Op], later: frozenset[str]) -> frozenset[str]:
    """Values that have to be there before ``ops``, where ``later`` have to be after them."""
    for op in reversed(ops):
        later = (later - set(op.writes)) | set(op.reads)
    return later | {STREAM}
