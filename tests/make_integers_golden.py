"""Write tiny models for packed integers, and what is exported of them.

What they decode to comes from the package itself (`tests/make_compressed_tensors_golden.py`). Run
from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_integers_golden.py
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny

from lrc.convert import export
from lrc.convert.integer_target import for_integers
from lrc.pipeline.compress import compress
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec, MatrixSpec, QuantSpec

GOLDEN = Path(__file__).parent / "data" / "golden" / "integers"
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 16,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip
#: Widths of matrices that differ from the others, by format: not all may have them.
WIDTHS = {
    "compressed-tensors": {"self_attn.q_proj": 2, "self_attn.o_proj": 8, "mlp.down_proj": 4},
    "gptq": {},
}
#: The others' width, and ranks by format.
BITS, RANKS = 3, {"compressed-tensors": 2, "gptq": 0}


def source(target: str) -> Path:
    """The compressed model of a format."""
    return GOLDEN / f"{target}-source"


def spec_of(dense: Path, target: str) -> CompressSpec:
    """Parameters of :func:`source`."""
    asked = DecomposeSpec(
        quant=QuantSpec("uniform", BITS), low_rank=LowRankSpec(RANKS[target], factor_bits=8)
    )
    spec = for_integers(dense, CompressSpec(decompose=asked), target, rank=True)
    solve = spec.decompose
    matrices = {
        f"model.layers.0.{name}": MatrixSpec(replace(solve.quant, bits=bits), solve.low_rank)
        for name, bits in WIDTHS[target].items()
    }
    return replace(spec, matrices=matrices)


def main() -> None:
    """Write them all anew."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    windows = np.random.default_rng(5).integers(0, 256, (4, 32))
    with tempfile.TemporaryDirectory() as name:
        dense = tiny.write_model(Path(name) / "dense", **SIZES)
        for target in WIDTHS:
            compress(dense, source(target), spec_of(dense, target), windows=windows, threads=1)
            export(source(target), GOLDEN / target, target)


if __name__ == "__main__":
    main()
