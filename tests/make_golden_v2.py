"""Write the golden files of format version 2: a compressed tiny model, and one matrix of each kind.

They must decode to the same values for ever, so this runs once a format version; a new version
gets a script and a folder of its own. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_v2.py

``model/`` is what ``lrc.compress`` writes; ``matrices.safetensors`` and ``matrices.json`` hold
matrices of every codebook and part, ``expected.json`` the sha256 of what needs no sums to decode,
and ``expected.npz`` dense matrices in float32.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from numpy.typing import NDArray
from packed_cases import random_matrix
from packed_golden import V2

from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint, matrix_record, matrix_tensors
from lrc.pipeline.compress import compress
from lrc.solvers.api import decompose
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec

SEED = 91121
SMALL = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
#: Matrices of the model whose dense values are stored; of the others the digests must do.
DENSE = ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight")
#: name: shape, codebook, bits, group size, rotation, rank, factor bits.
CASES: dict[str, tuple[tuple[int, int], str, int, int, str, int, int]] = {
    "e8p": ((16, 24), "e8p", 2, 0, "hadamard", 2, 4),
    "e8p_ragged": ((5, 13), "e8p", 2, 0, "none", 1, 16),
    "rvq3": ((12, 16), "e8p-rvq3", 3, 0, "hadamard", 0, 4),
    "rvq4": ((7, 20), "e8p-rvq4", 4, 0, "hadamard", 2, 3),
    "uniform3_groups": ((6, 21), "uniform", 3, 8, "none", 1, 8),
    "uniform8": ((4, 12), "uniform", 8, 0, "hadamard", 0, 4),
    "lloyd2": ((9, 28), "lloyd-max", 2, 0, "hadamard", 3, 2),
    "lloyd5_groups": ((6, 20), "lloyd-max", 5, 10, "none", 0, 4),
    "trellis12": ((48, 21), "trellis12", 2, 0, "hadamard", 2, 4),
    "trellis8": ((32, 3), "trellis8", 3, 0, "none", 0, 4),
    "trellis16": ((16, 5), "trellis16", 4, 0, "hadamard", 1, 6),
}


def digest(matrix: PackedMatrix) -> str:
    """The sha256 of what each part decodes to as little-endian float32: no value is a sum."""
    found = hashlib.sha256()
    for term in matrix.terms:
        for factor in term.factored():
            found.update(np.ascontiguousarray(factor, "<f4").tobytes())
    return found.hexdigest()


def matrices() -> dict[str, PackedMatrix]:
    """One matrix of each kind, one with factors only, and one with two parts of each kind."""
    rng = np.random.default_rng(SEED)
    made = {}
    for name, (shape, codebook, bits, group, rotation, rank, factor_bits) in CASES.items():
        W = rng.standard_normal(shape).astype(np.float32)
        spec = DecomposeSpec(
            quant=QuantSpec(codebook, bits, group),
            low_rank=LowRankSpec(rank, factor_bits),
            rotation=rotation,
        )
        made[name] = decompose(W, None, spec, threads=1).matrix
    W = rng.standard_normal((8, 11)).astype(np.float32)
    alone = DecomposeSpec(recipe="low-rank", low_rank=LowRankSpec(3, 5))
    made["factors_only"] = decompose(W, None, alone, threads=1).matrix
    first, second = made["e8p"], random_matrix((16, 24), ("lloyd-max", 2), rank=1, seed=SEED)
    made["twice"] = dataclasses.replace(first, parts=(*first.parts, *second.parts))
    return made


def model(folder: Path) -> PackedCheckpoint:
    """Compress a tiny random model with the defaults at rank 2."""
    spec = CompressSpec(
        decompose=DecomposeSpec(low_rank=LowRankSpec(2), iterations=2), embed_bits=4
    )
    windows = np.random.default_rng(SEED + 1).integers(0, 256, (4, 64))
    with tempfile.TemporaryDirectory() as scratch:
        source = tiny.write_model(Path(scratch) / "model", seed=SEED + 2, **SMALL)
        compress(source, folder, spec, threads=1, windows=windows)
    return PackedCheckpoint.open(folder)


def main() -> None:
    """Write everything anew."""
    shutil.rmtree(V2, ignore_errors=True)
    V2.mkdir(parents=True)
    made = matrices()
    tensors: dict[str, NDArray[Any]] = {}
    for name, matrix in made.items():
        tensors |= matrix_tensors(name, matrix)
    write_safetensors(V2 / "matrices.safetensors", tensors, {})
    records = {name: matrix_record(matrix) for name, matrix in made.items()}
    _json(V2 / "matrices.json", records)
    small = model(V2 / "model")
    packed = {name: small.linear(name) for name in small.names()}
    found = made | {k: v for k, v in packed.items() if isinstance(v, PackedMatrix)}
    _json(V2 / "expected.json", {name: digest(matrix) for name, matrix in found.items()})
    dense = {name: found[name].to_dense() for name in (*made, *DENSE)}
    np.savez(V2 / "expected.npz", **dense)


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
