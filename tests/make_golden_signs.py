"""Write the golden files of matrices with numbers in the place of signs: see `lrc.parts.signs`.

They must decode to the same values for ever, so this ran once. From the repository's root::

    PYTHONPATH=.:kernels:tests python tests/make_golden_signs.py
"""

from __future__ import annotations

import json

import numpy as np
from packed_cases import random_matrix
from packed_golden import V2

from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import matrix_record, matrix_tensors
from lrc.parts.signs import unpack_signs

NAME = "real_signs"
ROTATIONS = ("hadamard-real-in", "hadamard-real-out", "hadamard-real")


def matrices() -> dict[str, PackedMatrix]:
    """One of each rotation, with a lattice and a component of low rank."""
    return {
        rotation: random_matrix((20, 26), rank=1, rotation=rotation, seed=7919 + i)
        for i, rotation in enumerate(ROTATIONS)
    }


def main() -> None:
    """Write everything anew."""
    made = matrices()
    tensors, expected = {}, {}
    for name, matrix in made.items():
        tensors |= matrix_tensors(name, matrix)
        m, n = matrix.shape
        expected[f"{name}.in"] = unpack_signs(matrix.signs_in, n)
        expected[f"{name}.out"] = unpack_signs(matrix.signs_out, m)
        expected[name] = matrix.to_dense()
    write_safetensors(V2 / f"{NAME}.safetensors", tensors)
    records = {name: matrix_record(matrix) for name, matrix in made.items()}
    text = json.dumps(records, indent=1, sort_keys=True) + "\n"
    (V2 / f"{NAME}.json").write_text(text, encoding="utf-8")
    np.savez(V2 / f"{NAME}.npz", **expected)


if __name__ == "__main__":
    main()
