"""Write the golden files of matrices that have the basis of another one, and what they decode to.

They must decode to the same values for ever, so this runs once. Run from the repository's root
with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_basis.py
"""

from __future__ import annotations

import json

import numpy as np
from make_golden_v2 import digest
from packed_cases import random_factor
from packed_golden import V2

from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.parts.on_basis import OnBasis
from lrc.parts.packed import matrix_record, matrix_tensors

SEED = 91124
#: Rows of the holder and of the matrix on its basis, inputs and rank, by bits of the factors.
SIZES = {16: ((6, 9), 11, 3), 5: ((4, 7), 13, 2)}


def matrices() -> dict[str, PackedMatrix]:
    """A holder and a matrix on its basis, for each width."""
    rng = np.random.default_rng(SEED)
    made = {}
    for bits, ((first, second), n, rank) in SIZES.items():
        right = random_factor(rank, n, bits, rng)
        holder = LowRank(random_factor(rank, first, bits, rng), right)
        other = OnBasis(random_factor(rank, second, bits, rng), right, basis=f"holder{bits}")
        for name, rows, part in (("holder", first, holder), ("other", second, other)):
            gain = float(np.float32(rng.uniform(0.5, 2)))
            made[f"{name}{bits}"] = PackedMatrix((rows, n), gain, "none", None, None, (part,))
    return made


def main() -> None:
    """Write tensors, records, digests of factors and dense values."""
    made = matrices()
    tensors = [matrix_tensors(name, matrix) for name, matrix in made.items()]
    together = {name: array for one in tensors for name, array in one.items()}
    write_safetensors(V2 / "basis.safetensors", together, {})
    records = {n: {"record": matrix_record(m), "digest": digest(m)} for n, m in made.items()}
    (V2 / "basis.json").write_text(
        json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    np.savez(V2 / "basis.npz", **{name: matrix.to_dense() for name, matrix in made.items()})


if __name__ == "__main__":
    main()
