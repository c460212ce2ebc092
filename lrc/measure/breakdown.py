"""What the bytes of a compressed model are spent on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lrc.measure.storage import linear_weights
from lrc.parts import PARTS
from lrc.parts.packed import PackedCheckpoint

#: Names of what is no part of a matrix.
TABLES, PLAIN, GAINS, HEADERS = "tables", "not compressed", "signs and gains", "headers"


def breakdown(source: PackedCheckpoint) -> dict[str, int]:
    """Bytes of the weight files by what they hold, most first; they sum up to ``source.nbytes``.

    Matrices of the blocks are told apart by what their parts hold (codes, scales, low rank), with
    signs and gains beside them; embedding and head are one entry each. What is stored in 16 or
    32 bits is "not compressed", and "headers" are those of the files.
    """
    found: Counter[str] = Counter()
    linear = frozenset(linear_weights(source))
    records = source.report["matrices"]
    for name in source.names():
        count = source.stored_bytes(name)
        if name not in records:
            found[PLAIN] += count
        elif name not in linear:
            found[records[name].get("role", TABLES)] += count
        else:
            of_parts = _of_parts(records[name])
            found += of_parts
            found[GAINS] += count - of_parts.total()
    found[HEADERS] = source.nbytes - found.total()
    return {what: count for what, count in found.most_common() if count}


def _of_parts(record: Mapping[str, Any]) -> Counter[str]:
    """Bytes of the tensors of a matrix's parts."""
    m, n = record["shape"]
    found: Counter[str] = Counter()
    for part in record["parts"]:
        kind = PARTS[part["kind"]]
        for tensor, spec in kind.layout(part, (m, n)).items():
            found[kind.holds(tensor)] += spec.nbytes
    return found
