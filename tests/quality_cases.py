"""How well the trained model survives its compression, for bands that a worse solver leaves.

Run from the repository's root to measure anew what the bands of
`tests/pipeline/test_quality_band.py` are set around (a few minutes)::

    PYTHONPATH=.:kernels:tests python tests/quality_cases.py
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrc.measure.scoring import score_windows
from lrc.pipeline.compress import compress
from lrc.run.load import LoadedModel, load
from lrc.run.text import TokenIds, token_windows
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec

TRAINED = Path(__file__).parent / "data" / "trained"
#: Windows of calibration and of evaluation, and their tokens.
CALIBRATION, EVALUATION, CONTEXT = 64, 48, 128
SEEDS = (1, 2, 3)
#: Of the embedding: so many that figures are those of the matrices.
EMBED_BITS = 8

_TRELLIS = DecomposeSpec(low_rank=LowRankSpec(0))
#: What is solved: trellises of every width as a whole, feedback without the polish that makes up
#: for it, and the polish of the lattice in turn with L R.
CASES = {
    "2 bits": _TRELLIS,
    "3 bits": dataclasses.replace(_TRELLIS, quant=QuantSpec.for_bits(3)),
    "4 bits": dataclasses.replace(_TRELLIS, quant=QuantSpec.for_bits(4)),
    "2 bits, feedback alone": dataclasses.replace(_TRELLIS, polish_sweeps=0),
    "2 bits, lattice, rank 8": DecomposeSpec(
        quant=QuantSpec("e8p", 2), low_rank=LowRankSpec(8)
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Quality:
    """Figures of some seeds, each float64 (seeds,).

    ``ratio`` is the perplexity over the original's and ``divergence`` KL(original || model) in
    nats, both of held-out text and of what was read back from disk; ``error`` is the geometric
    mean of the matrices' relative errors, ``bits`` those stored a weight of the linear layers.
    """

    ratio: NDArray[np.float64]
    divergence: NDArray[np.float64]
    error: NDArray[np.float64]
    bits: NDArray[np.float64]


def windows(loaded: LoadedModel, file: str, count: int) -> TokenIds:
    """The first windows of a text of the trained model."""
    text = (TRAINED / file).read_text(encoding="utf-8")
    found = token_windows(loaded.tokenizer.encode(text), CONTEXT, count)
    assert len(found) == count, f"{file} is too short"
    return found


def quality(decompose: DecomposeSpec, seeds: tuple[int, ...], scratch: Path) -> Quality:
    """Compress the trained model once a seed, and measure what comes back from disk."""
    original = load(TRAINED / "model")
    calibration = windows(original, "calibration.txt", CALIBRATION)
    reports = [
        compress(
            TRAINED / "model",
            scratch / f"seed {seed}",
            CompressSpec(
                decompose=dataclasses.replace(decompose, seed=seed), embed_bits=EMBED_BITS
            ),
            threads=2,
            windows=calibration,
        )
        for seed in seeds
    ]
    models = [load(report.path).model for report in reports]
    heldout = windows(original, "heldout.txt", EVALUATION)
    scores = score_windows(
        models, heldout, "all", against=original.model, activations="f32", threads=2
    )
    return Quality(
        ratio=np.array([np.exp(np.mean(s.loss - s.against_loss)) for s in scores]),
        divergence=np.array([s.divergence.mean() for s in scores]),
        error=np.array([_error(report.matrices) for report in reports]),
        bits=np.array([report.bits_per_weight_linear for report in reports]),
    )


def _error(records: dict[str, dict[str, float]]) -> float:
    errors = [r["relative_error"] for name, r in records.items() if ".layers." in name]
    return float(np.exp(np.mean(np.log(errors))))


def main() -> None:
    """Mean and spread of every figure over many seeds."""
    for name, decompose in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            found = quality(decompose, tuple(range(1, 13)), Path(scratch))
        sys.stdout.write(f"{name}\n")
        for field in dataclasses.fields(found):
            values = getattr(found, field.name)
            spread = values.std(ddof=1) / values.mean()
            sys.stdout.write(f"  {field.name:<11}{values.mean():.4f} +- {100 * spread:.2f} %\n")


if __name__ == "__main__":
    main()
