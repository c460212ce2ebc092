"""Write the golden files of a table whose inputs are rotated, and of what it decodes to.

They must decode to the same values for ever, so this runs once. Run from the repository's root
with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_inputs.py
"""

from __future__ import annotations

import json

import numpy as np
from make_golden_v2 import digest
from packed_golden import V2

from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.packed import matrix_record, matrix_tensors
from lrc.quant.table import quantize_table

SEED = 91122
#: Rows and columns by bits: powers of two, odd multiples of them, and neither.
SHAPES = {4: (7, 24), 5: (5, 13), 6: (3, 64), 8: (9, 12)}


def main() -> None:
    """Write tensors, records, digests of codes and dense values."""
    rng = np.random.default_rng(SEED)
    made = {
        f"table{bits}": quantize_table(
            rng.standard_normal(shape).astype(np.float32), bits, rotation="hadamard", seed=bits
        )[0]
        for bits, shape in SHAPES.items()
    }
    tensors = [matrix_tensors(name, matrix) for name, matrix in made.items()]
    together = {name: array for one in tensors for name, array in one.items()}
    write_safetensors(V2 / "inputs.safetensors", together, {})
    records = {n: {"record": matrix_record(m), "digest": digest(m)} for n, m in made.items()}
    (V2 / "inputs.json").write_text(
        json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    np.savez(V2 / "inputs.npz", **{name: matrix.to_dense() for name, matrix in made.items()})


if __name__ == "__main__":
    main()
