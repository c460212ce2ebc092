"""Records of format version 1 as those of today; tensors are the same in both.

Version 1 knew one codebook and one pair of factors a matrix: its record had ``codebook``,
``bits`` and ``group_size`` (``"none"`` and 0 bits where Q = 0), ``rank`` and ``factor_bits``
(rank 0: no factors) in the place of ``parts``, and whether rows had scales of their own showed in
the shape of ``NAME.scales``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts.codes import codes_record
from lrc.parts.fields import NATURAL, NUMBER, SHAPE, TEXT, Fields, check_fields
from lrc.parts.low_rank import low_rank_record

_PARTS: Fields = {
    "codebook": TEXT,
    "bits": NATURAL,
    "group_size": NATURAL,
    "rank": NATURAL,
    "factor_bits": NATURAL,
}
_FIELDS: Fields = {"shape": SHAPE, "rotation": TEXT, "bits_per_weight": NUMBER, **_PARTS}


def translated(file: SafetensorsFile, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the matrix ``name``, which ``file`` holds, with ``parts``.

    Raises
    ------
    FormatError
        A field is missing or of the wrong type, or the file has no scales for codes.
    """
    check_fields(name, record, _FIELDS)
    parts = []
    if (record["codebook"], record["bits"]) != ("none", 0):
        rows = file.info(f"{name}.scales").shape[:1]
        by_row = rows == (record["shape"][0],) and rows != (1,)
        parts.append(
            codes_record(
                record["codebook"], record["bits"], record["group_size"], row_scales=by_row
            )
        )
    if record["rank"]:
        parts.append(low_rank_record(record["rank"], record["factor_bits"]))
    return {key: value for key, value in record.items() if key not in _PARTS} | {"parts": parts}
