"""The table of backward passes: a row a kind of operation. One that joins inherits their laws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lrc.errors import UnsupportedModelError
from lrc.nn.linear import DenseLinear
from lrc.nn.ops import Multiply, Op
from lrc.refine import (
    attention,
    convolution,
    elementwise,
    experts,
    linear,
    norms,
    positions,
    scan,
    ssd,
)
from lrc.refine.linear import arrays_of
from lrc.refine.opened import opened
from lrc.refine.vjp import Array, Rule

#: Kind of operation to its rule.
RULES: dict[type[Op], Rule] = {
    **norms.RULES, **elementwise.RULES, **positions.RULES, **attention.RULES, **linear.RULES,
    **experts.RULES, **convolution.RULES, **scan.RULES, **ssd.RULES,
}  # fmt: skip


def rule_of(op: Op) -> Rule:
    """The rule of an operation.

    Raises
    ------
    UnsupportedModelError
        It has none.
    """
    if type(op) not in RULES:
        raise UnsupportedModelError(
            f"the backward pass knows no {op.name} ({type(op).__name__}); add a rule to "
            "lrc.refine.rules.RULES"
        )
    return RULES[type(op)]


def with_opened(ops: Iterable[Op]) -> tuple[Op, ...]:
    """The same operations, packed layers decoded once; see `lrc.refine.opened`."""
    return tuple(
        replace(op, linears=tuple(map(opened, op.linears))) if isinstance(op, Multiply) else op
        for op in ops
    )


def arrays(op: Op) -> dict[str, Array]:
    """The arrays of an operation whose gradients can be asked for, by name."""
    if isinstance(op, Multiply):
        return {
            f"{place}.{name}": value
            for place, layer in enumerate(op.linears)
            for name, value in arrays_of(layer).items()
        }
    found = {name: getattr(op, name) for name in rule_of(op).arrays}
    return {name: value for name, value in found.items() if value is not None}


def with_arrays(op: Op, new: Mapping[str, Array]) -> Any:
    """The same operation with other arrays, by the names of `arrays`."""
    if not new:
        return op
    if not isinstance(op, Multiply):
        return replace(op, **new)  # type: ignore[type-var]
    layers = list(op.linears)
    for name, value in new.items():
        place, field = name.split(".")
        layers[int(place)] = _changed(layers[int(place)], field, value)
    return replace(op, linears=tuple(layers))


def _changed(layer: Any, field: str, value: Array) -> Any:
    """A linear layer with another array."""
    layer = opened(layer)
    if isinstance(layer, DenseLinear):
        if field == "bias":
            return DenseLinear(layer.weight, value)
        return DenseLinear(value, layer.bias)
    return replace(layer, **{field: value})
