"""Write the golden files of a model of L R alone, with biases and with matrices that stay dense.

They must open and decode to the same values for ever, so this runs once. Run from the repository's
root with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_alone.py

``alone/`` is what ``lrc.compress`` writes with ``--recipe welore --bias``; ``alone.json`` holds the
sha256 of what every tensor decodes to without a sum, and ``alone.npz`` all of them in float32.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tiny
from make_golden_v2 import SMALL, digest
from numpy.typing import NDArray
from packed_golden import V2

from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.compress import compress
from lrc.recipes import with_recipe
from lrc.spec import CompressSpec

SEED = 91123
FOLDER = V2 / "alone"


def spec() -> CompressSpec:
    """What the recipe decides, at 70 % of the numbers, with biases."""
    found = dataclasses.replace(with_recipe("welore", CompressSpec()), bias=True)
    low_rank = dataclasses.replace(found.decompose.low_rank, keep=0.7)
    return dataclasses.replace(
        found, decompose=dataclasses.replace(found.decompose, low_rank=low_rank)
    )


def stored(path: Path) -> dict[str, PackedMatrix | NDArray[np.float32]]:
    """Every tensor of a compressed model, as it is read."""
    opened = PackedCheckpoint.open(path)
    return {name: opened.linear(name) for name in opened.names()}


def fingerprint(tensor: PackedMatrix | NDArray[np.float32]) -> str:
    """The sha256 of values no one of which is a sum."""
    if isinstance(tensor, PackedMatrix):
        return digest(tensor)
    return hashlib.sha256(np.ascontiguousarray(tensor, "<f4").tobytes()).hexdigest()


def main() -> None:
    """Write the directory, digests and dense values."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    windows = np.random.default_rng(SEED).integers(0, 256, (4, 64))
    with tempfile.TemporaryDirectory() as scratch:
        source = tiny.write_model(Path(scratch) / "model", seed=SEED + 1, **SMALL)
        compress(source, FOLDER, spec(), threads=1, windows=windows)
    found = stored(FOLDER)
    (V2 / "alone.json").write_text(
        json.dumps({name: fingerprint(of) for name, of in found.items()}, indent=1) + "\n",
        encoding="utf-8",
    )
    values = {n: of.to_dense() if isinstance(of, PackedMatrix) else of for n, of in found.items()}
    np.savez(V2 / "alone.npz", **values)


if __name__ == "__main__":
    main()
