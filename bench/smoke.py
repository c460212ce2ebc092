"""A few seconds of every kind of work: are the answers right, and is the speed sane?

    python bench/smoke.py [--seconds 0.5] [--out bench/results/smoke.jsonl]

Each answer is compared with the plain NumPy kernels before it is timed. Nothing is asserted
about speed; compare ratios on one machine, never times across machines. At last the scripts
that measure quality run once, on a tiny model and a small matrix.
"""

from __future__ import annotations

import harness  # first: it pins the threads
import numpy as np
import smoke_scripts

import lrc
from lrc_kernels.backend import get_kernels

ROWS, COLUMNS = 256, 1024


def cases() -> list[harness.Case]:
    """One case a kind of work, on synthetic data."""
    fast, plain = get_kernels("cpu"), get_kernels("reference")
    rng = np.random.default_rng(8347)
    vectors = rng.standard_normal((512, 8)).astype(np.float32)
    x = rng.standard_normal(COLUMNS).astype(np.float32)
    dense = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    codes = rng.integers(0, 1 << 16, (ROWS, COLUMNS // 8)).astype(np.uint16)
    tiles = codes.reshape(1, -1)
    small = dense[:64, :128]
    weights = float(ROWS * COLUMNS)

    def transform() -> np.ndarray:
        work = dense.copy()
        fast.fwht(work)
        return work

    def transformed() -> np.ndarray:
        work = dense.copy()
        plain.fwht(work)
        return work

    def close(expected: np.ndarray) -> harness.Callable[[np.ndarray], None]:
        scale = float(np.abs(expected).max())
        return lambda got: np.testing.assert_allclose(got, expected, atol=1e-5 * scale, rtol=0)

    def distance(chosen: np.ndarray) -> np.ndarray:
        return ((plain.decode_e8p(chosen) - vectors) ** 2).sum(axis=1)

    nearest = distance(plain.encode_e8p(vectors))
    decomposed = lrc.decompose(small)
    return [
        harness.Case("fwht", transform, close(transformed()), weights, "weight"),
        harness.Case(
            "encode_e8p",
            lambda: fast.encode_e8p(vectors),
            # Equally near points may differ; their distance may not.
            lambda got: np.testing.assert_allclose(distance(got), nearest, rtol=1e-5, atol=1e-6),
            float(vectors.size),
            "weight",
        ),
        harness.Case("matvec_float32", lambda: dense @ x, close(dense @ x), weights, "weight"),
        harness.Case(
            "matvec_e8p",
            lambda: fast.matvec_e8p(codes, x),
            close(plain.matvec_e8p(codes, x)),
            weights,
            "weight",
        ),
        harness.Case(
            "matvec_trellis",
            lambda: fast.matvec_trellis(tiles, 2, 12, ROWS, x),
            close(plain.matvec_trellis(tiles, 2, 12, ROWS, x)),
            weights,
            "weight",
        ),
        harness.Case(
            "decode_trellis",
            lambda: fast.decode_trellis(tiles, 2, 12, ROWS, COLUMNS),
            close(plain.decode_trellis(tiles, 2, 12, ROWS, COLUMNS)),
            weights,
            "weight",
        ),
        harness.Case(
            "decompose_64x128",
            lambda: lrc.decompose(small),
            lambda got: (
                np.array_equal(got.to_dense(), decomposed.to_dense()) and got.relative_error < 0.5
            ),
            float(small.size),
            "weight",
            {
                "relative_error": decomposed.relative_error,
                "bits_per_weight": decomposed.bits_per_weight,
            },
        ),
    ]


if __name__ == "__main__":
    given = harness.options(__doc__)
    harness.run(cases(), given.seconds, given.out)
    harness.append(smoke_scripts.records(), given.out)
