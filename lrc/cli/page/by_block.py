"""Matrices as a grid of blocks and kinds, from their names alone."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

#: Value over block, by kind.
Series = dict[str, list[tuple[float, float]]]
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def placed(name: str) -> tuple[str, int, str] | None:
    """Stack, block and kind of a matrix; experts of a block are of one kind.

    None where the name has no block.

    Examples
    --------
    >>> placed("s.t.3.b.c.weight")
    ('s.t', 3, 'b.c')
    >>> placed("s.0.b.17.c.weight")
    ('s', 0, 'b.*.c')
    >>> placed("d.weight")
    """
    block = _NUMBER.search(name)
    if block is None:
        return None
    stack, *rest = _NUMBER.split(name.removesuffix(".weight"))
    return stack.rstrip("."), int(block[0]), "*".join(rest).strip(".")


def rank_of(record: Mapping[str, Any]) -> int:
    """Rank of all that is of low rank in a matrix."""
    return sum(part.get("rank", 0) for part in record["parts"])


def series(matrices: Mapping[str, Mapping[str, Any]], field: str) -> Series:
    """A field of the records over blocks; the mean where a block has several of a kind.

    ``rank`` is that of the parts. Records without the field are left out.
    """
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, record in matrices.items():
        where = placed(name)
        value = rank_of(record) if field == "rank" else record.get(field)
        if where is not None and value is not None:
            stack, block, kind = where
            found[stack, kind][block].append(float(value))
    names = _stack_names({stack for stack, _ in found})
    return {
        names[stack] + kind: [(block, statistics.fmean(v)) for block, v in sorted(blocks.items())]
        for (stack, kind), blocks in found.items()
    }


def _stack_names(stacks: set[str]) -> dict[str, str]:
    """What tells stacks apart, before the names of their matrices: nothing where there is one."""
    if len(stacks) < 2:
        return dict.fromkeys(stacks, "")
    parts = {stack: stack.split(".") for stack in stacks}
    common = set.intersection(*map(set, parts.values()))
    return {stack: ".".join(p for p in of if p not in common) + "." for stack, of in parts.items()}
