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


def placed(name: str) -> tuple[int, str] | None:
    """Block and kind of a matrix; experts of a block are of one kind; None where no block is named.

    Examples
    --------
    >>> placed("model.layers.3.self_attn.q_proj.weight")
    (3, 'self_attn.q_proj')
    >>> placed("model.layers.0.mlp.experts.17.up_proj.weight")
    (0, 'mlp.experts.*.up_proj')
    >>> placed("lm_head.weight")
    """
    parts = _NUMBER.split(name.removesuffix(".weight"))
    if len(parts) == 1:
        return None
    block = _NUMBER.search(name)
    assert block is not None
    return int(block[0]), "*".join(parts[1:]).strip(".")


def rank_of(record: Mapping[str, Any]) -> int:
    """Rank of all that is of low rank in a matrix."""
    return sum(part.get("rank", 0) for part in record["parts"])


def series(matrices: Mapping[str, Mapping[str, Any]], field: str) -> Series:
    """A field of the records over blocks; the mean where a block has several of a kind.

    ``rank`` is that of the parts. Records without the field are left out.
    """
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, record in matrices.items():
        where = placed(name)
        value = rank_of(record) if field == "rank" else record.get(field)
        if where is not None and value is not None:
            found[where[1]][where[0]].append(float(value))
    return {
        kind: [(block, statistics.fmean(values)) for block, values in sorted(blocks.items())]
        for kind, blocks in found.items()
    }
