"""Write the golden file of the trellis codebooks: matrices with random words.

They must decode to the same values for ever: this runs once. Any words are codes, so it needs no
encoder. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_trellis.py

``trellis.safetensors`` holds the matrices, ``trellis.json`` their records, each with the sha256
of its weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from make_golden_v1 import FOLDER, digest
from numpy.typing import NDArray
from packed_cases import random_matrix

from lrc.formats.safetensors.file import write_safetensors
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import matrix_record, matrix_tensors

TENSORS, RECORDS = FOLDER / "trellis.safetensors", FOLDER / "trellis.json"
#: name: shape, codebook, bits, rank.
CASES: dict[str, tuple[tuple[int, int], str, int, int]] = {
    "one_tile": ((16, 16), "trellis8", 2, 0),
    "ragged": ((48, 21), "trellis12", 2, 2),
    "narrow": ((32, 3), "trellis12", 3, 0),
    "bands": ((192, 5), "trellis12", 4, 1),
    "wide_states": ((128, 3), "trellis16", 2, 0),
    "columns": ((256, 2), "trellis16", 3, 0),
}


def matrices() -> dict[str, PackedMatrix]:
    """One matrix of each kind."""
    return {
        name: random_matrix(shape, (codebook, bits), rank=rank, seed=70201 + i)
        for i, (name, (shape, codebook, bits, rank)) in enumerate(CASES.items())
    }


def main(tensors: Path = TENSORS, records: Path = RECORDS) -> None:
    """Write both files anew."""
    stored: dict[str, NDArray[Any]] = {}
    found: dict[str, Any] = {}
    for name, matrix in matrices().items():
        stored |= matrix_tensors(name, matrix)
        found[name] = matrix_record(matrix) | {"sha256": digest(matrix)}
    write_safetensors(tensors, stored, {})
    records.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
