"""Random packed matrices of every kind, for tests."""

from __future__ import annotations

import numpy as np
from codebook_cases import FEW

from lrc.codebooks import get_codebook
from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts.base import Part
from lrc.parts.codes import Codes
from lrc.parts.low_rank import Factor, LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.parts.signs import sign_specs
from lrc.quant import quantizer as encoder

#: Codebook, bits: those that fit any shape, and no Q at all.
CODEBOOKS = [*FEW, ("none", 0)]
#: Trellises: matrices with rows in multiples of 16 only, and any words are codes.
TRELLISES = [("trellis8", 2), ("trellis12", 3), ("trellis16", 4)]


def random_factor(rank: int, length: int, bits: int, rng: np.random.Generator) -> Factor:
    """A factor with random codes, or random float16 entries at 16 bits."""
    if bits == 16:
        words = rng.standard_normal((rank, length)).astype(np.float16)
        return Factor(16, length, words, np.zeros(0, np.float16))
    codes = rng.integers(0, 2**bits, (rank, length)).astype(np.uint8)
    words = encoder("lloyd-max", bits).pack((codes,))[0]
    return Factor(bits, length, words, rng.uniform(0.2, 2, rank).astype(np.float16))


def random_matrix(
    shape: tuple[int, int],
    codebook: tuple[str, int] = ("e8p", 2),
    *,
    group_size: int = 0,
    row_scales: bool = True,
    rotation: str = "hadamard",
    rank: int = 2,
    factor_bits: int = 4,
    seed: int = 5,
) -> PackedMatrix:
    """A packed matrix with codes of a Gaussian matrix and random scales, signs and factors."""
    m, n = shape
    rng = np.random.default_rng(seed)
    planes = ()
    if codebook in TRELLISES or codebook[0].startswith(("trellis", "shuffle")):
        ((dtype, size),) = get_codebook(*codebook).layout(m, n)
        planes = (rng.integers(0, np.iinfo(dtype).max + 1, size).astype(dtype),)
    elif codebook[0] != "none":
        quantizer = encoder(*codebook)
        padded = -(-n // quantizer.block_size) * quantizer.block_size
        W = rng.standard_normal((m, padded)).astype(np.float32)
        planes = quantizer.pack(quantizer.encode(W))
    groups = -(-n // group_size) if group_size else 1
    scales = rng.uniform(0.5, 2, (m if row_scales else 1, groups)).astype(np.float16)
    specs = sign_specs(rotation, shape)
    signs = {
        side: random_signs(specs[side], rng)
        if specs[side].dtype == "I8"
        else rng.integers(0, 256, specs[side].shape).astype(np.uint8)
        for side in specs
    }
    parts: list[Part] = []
    if planes:
        parts.append(Codes(shape, *codebook, group_size, planes, scales))
    if rank:
        left = random_factor(rank, m, factor_bits, rng)
        parts.append(LowRank(left, random_factor(rank, n, factor_bits, rng)))
    return PackedMatrix(
        shape, 0.37, rotation, signs.get("signs_in"), signs.get("signs_out"), tuple(parts)
    )


def random_signs(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Real numbers in the place of signs, about 1 or -1."""
    sizes = rng.integers(1, 128, spec.shape) * rng.choice([-1, 1], spec.shape)
    return sizes.astype(np.int8)


def codes_of(matrix: PackedMatrix) -> Codes:
    """The codes of a matrix, without its gain."""
    (codes,) = (part for part in matrix.parts if isinstance(part, Codes))
    return codes


def rows_of_codes(matrix: PackedMatrix) -> np.ndarray:
    """Q with its gain in the rotated basis; zeros where there are no codes."""
    codes = [term.rows(np.arange(matrix.shape[0])) for term in matrix.terms if term.kind == "codes"]
    return codes[0] if codes else np.zeros(matrix.shape, np.float32)


def factors_of(matrix: PackedMatrix) -> tuple[np.ndarray, np.ndarray]:
    """L with the gain and R in the rotated basis; of rank 0 where there are none."""
    m, n = matrix.shape
    for term in matrix.terms:
        if isinstance(term, LowRank):
            L, R = term.factored()
            return L, R
    return np.zeros((m, 0), np.float32), np.zeros((0, n), np.float32)
