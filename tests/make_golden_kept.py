"""Write the golden files of matrices of which rows or columns are kept, and what they decode to.

They must decode to the same values for ever, so this runs once. Run from the repository's root
with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_kept.py
"""

from __future__ import annotations

import json

import numpy as np
from make_golden_v2 import digest
from packed_golden import V2

from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.kept import SIDES, Kept
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import matrix_record, matrix_tensors

SEED = 91125
SHAPE, COUNT = (7, 9), 4


def matrices() -> dict[str, PackedMatrix]:
    """One of each side."""
    rng = np.random.default_rng(SEED)
    made = {}
    for axis, side in enumerate(SIDES):
        places = np.sort(rng.choice(SHAPE[axis], COUNT, replace=False)).astype(np.uint32)
        values = rng.standard_normal((COUNT, SHAPE[1 - axis])).astype(np.float16)
        part = Kept(SHAPE, side, places, values)
        made[side] = PackedMatrix(SHAPE, 1.5, "none", None, None, (part,))
    return made


def main() -> None:
    """Write tensors, records, digests and dense values."""
    made = matrices()
    tensors = [matrix_tensors(name, matrix) for name, matrix in made.items()]
    together = {name: array for one in tensors for name, array in one.items()}
    write_safetensors(V2 / "kept.safetensors", together, {})
    records = {n: {"record": matrix_record(m), "digest": digest(m)} for n, m in made.items()}
    (V2 / "kept.json").write_text(
        json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    np.savez(V2 / "kept.npz", **{name: matrix.to_dense() for name, matrix in made.items()})


if __name__ == "__main__":
    main()
