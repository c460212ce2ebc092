"""One matrix alone: how rank and bits trade against error, and which directions are kept.

    python examples/look_inside_one_matrix.py

The inputs of the layer are correlated, as activations are: a few directions carry most of their
energy. What counts is the error of W x, so a good decomposition spends its precision there.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import svds

import lrc
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec

M, N, TOKENS = 192, 256, 4096


def layer(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight matrix (m, n) and the second moment (n, n) of its inputs."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((M, N)) / np.sqrt(N)
    weight += 0.3 * rng.standard_normal((M, 4)) @ rng.standard_normal((4, N)) / np.sqrt(N)
    energies = np.geomspace(1, 1e-3, N)
    directions, _ = np.linalg.qr(rng.standard_normal((N, N)))
    inputs = rng.standard_normal((TOKENS, N)) * np.sqrt(energies) @ directions.T
    return weight.astype(np.float32), inputs.T @ inputs / TOKENS


def main() -> None:
    """Decompose the same matrix in several ways and print what each costs and keeps."""
    W, H = layer(seed=5807)
    print(f"{'recipe':18} {'bits':>4} {'rank':>5} {'bits/weight':>12} {'relative error':>15}")
    for recipe, bits, rank in (
        ("round-to-nearest", 2, 0),
        ("ldlq", 2, 0),
        ("caldera", 2, 0),
        ("caldera", 2, 8),
        ("caldera", 3, 0),
        ("caldera", 4, 0),
    ):
        spec = DecomposeSpec(
            recipe=recipe, quant=QuantSpec.for_bits(bits), low_rank=LowRankSpec(rank=rank)
        )
        found = lrc.decompose(W, H, spec)
        print(
            f"{recipe:18} {bits:4} {rank:5} {found.bits_per_weight:12.3f} "
            f"{found.relative_error:15.4f}"
        )

    found = lrc.decompose(W, H, DecomposeSpec(low_rank=LowRankSpec(rank=8)))
    x = np.random.default_rng(6211).standard_normal(N).astype(np.float32)
    operator = found.linear_operator()
    gap = np.abs(operator @ x - found.to_dense() @ x).max()
    print(f"\nas a LinearOperator: the largest difference to the dense product is {gap:.1e}")
    largest = svds(operator, k=1, return_singular_vectors=False)[0]
    print(f"its largest singular value is {largest:.3f}; that of W is {np.linalg.norm(W, 2):.3f}")


if __name__ == "__main__":
    main()
