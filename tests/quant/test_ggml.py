"""Grids of ggml are those that the package gguf reads; scales and codes only get better."""

from __future__ import annotations

import itertools

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrc import decompose
from lrc.codebooks import CODEBOOKS, get_codebook
from lrc.codebooks.ggml import LAYOUTS
from lrc.codebooks.ggml_grids import GRIDS
from lrc.linalg.factor import factor, feedback_matrix
from lrc.linalg.norms import proxy_loss
from lrc.quant import quantizer as encoder
from lrc.quant.blockwise import column_weights, ldlq_in_blocks, polish_in_blocks
from lrc.quant.table import quantize_table
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc_kernels.cpu.encode.grids import nearest_points

every_grid = pytest.mark.parametrize("name", LAYOUTS)
#: One of each kind: signed and affine scales, in stretches of 16 and 32, and alone in a block.
some_grids = pytest.mark.parametrize(
    "name",
    [
        "q2_k",
        "q3_k",
        "q5_k",
        "iq4_xs",
        "q4_1",
        "q5_0",
        "iq3_xxs",
        "iq2_xs",
        "iq2_xxs",
    ],
)


def bits(name):
    return CODEBOOKS[name].bits[0]


def kind(name):
    return gguf.GGMLQuantizationType[name.upper()]


def same_bits(a, b):
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


def weights(m, n, seed=3):
    """Rows of different sizes with a few large weights."""
    rng = np.random.default_rng(seed)
    return (rng.standard_t(4, (m, n)) * np.exp(rng.normal(0, 0.5, (m, 1))) * 0.02).astype("f4")


def moment(n, seed=5):
    """H of inputs that go together, some of which are much larger."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((3 * n, n)) @ rng.standard_normal((n, n)) / np.sqrt(n)
    X += rng.standard_normal((3 * n, n))
    X *= np.exp(rng.normal(0, 0.7, n))
    H = X.T @ X
    return H / np.trace(H) * n


@every_grid
def test_any_bytes_decode_as_the_package_reads_them(name):
    layout = LAYOUTS[name]
    raw = np.random.default_rng(7).integers(0, 256, (5, 3 * layout.size), dtype=np.uint8)
    raw &= 0xBF  # no float16 is infinite
    values = get_codebook(name, bits(name)).values((raw,), 3 * layout.block)
    assert same_bits(values, gguf.quants.dequantize(raw, kind(name)))
    assert np.array_equal(layout.pack(layout.unpack(raw.reshape(5, 3, -1))).reshape(5, -1), raw)


@every_grid
def test_sizes_are_those_of_the_package(name):
    assert (LAYOUTS[name].block, LAYOUTS[name].size) == gguf.GGML_QUANT_SIZES[kind(name)]


@every_grid
def test_codes_of_weights_are_read_as_they_were_meant(name):
    quantizer, W = encoder(name, bits(name)), weights(8, 512)
    codes = quantizer.encode(W)
    (plane,) = quantizer.pack(codes)
    assert same_bits(quantizer.decode(codes), gguf.quants.dequantize(plane, kind(name)))


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_scales_beat_those_of_the_package(name):
    quantizer, W = encoder(name, bits(name)), weights(32, 512)
    plain = gguf.quants.dequantize(gguf.quants.quantize(W, kind(name)), kind(name))
    own = quantizer.decode(quantizer.encode(W))
    assert np.square(W - own).sum() < 0.98 * np.square(W - plain).sum()


@some_grids
def test_weights_decide_where_errors_are_small(name):
    quantizer, W = encoder(name, bits(name)), weights(16, 512)
    rng = np.random.default_rng(1)
    counted = np.exp(rng.normal(0, 1.5, 512)).astype(np.float32)
    per_block = counted.reshape(-1, quantizer.block_size)

    def loss(values):
        return float((np.square(W - values) * counted).sum())

    weighed = quantizer.decode(quantizer.fit(W, per_block))
    assert loss(weighed) < loss(quantizer.decode(quantizer.encode(W)))


@some_grids
def test_feedback_and_polish_lower_the_loss(name):
    quantizer, W, H = encoder(name, bits(name)), weights(24, 512), moment(512)
    damped = H + 0.01 * np.diag(np.diag(H))
    feedback = feedback_matrix(factor(damped).cholesky, 1)
    H32 = H.astype(np.float32)
    D = column_weights(np.diag(damped), feedback)
    np.testing.assert_allclose(D, np.diag(factor(damped).cholesky) ** 2, rtol=2e-3)
    rounded = ldlq_in_blocks(W, feedback, quantizer, D)
    losses = [proxy_loss(W - quantizer.decode(quantizer.encode(W)), H32)]
    losses.append(proxy_loss(W - rounded.values, H32))
    for _ in range(3):
        rounded = polish_in_blocks(W, rounded, H32, quantizer, 1)
        assert same_bits(rounded.values, quantizer.decode(rounded.codes))
        losses.append(proxy_loss(W - rounded.values, H32))
    assert losses[1] < 0.9 * losses[0]
    assert losses[2] < 0.99 * losses[1]
    assert all(after <= before * (1 + 1e-5) for before, after in zip(losses[2:], losses[3:]))  # noqa: B905, RUF007


@some_grids
def test_any_number_of_threads_gives_the_same_codes(name):
    W, H = weights(600, 256), moment(256)
    spec = DecomposeSpec("ldlq", QuantSpec(name, bits(name)), rotation="none")
    one, two = (decompose(W, H, spec, threads=threads) for threads in (1, 2))
    assert np.array_equal(one.matrix.parts[0].planes[0], two.matrix.parts[0].planes[0])


@some_grids
@pytest.mark.parametrize("rank", [0, 8])
def test_a_decomposition_is_what_the_package_reads(name, rank):
    W, H = weights(48, 256), moment(256)
    spec = DecomposeSpec(
        quant=QuantSpec(name, bits(name)), rotation="none", low_rank=LowRankSpec(rank)
    )
    found = decompose(W, H, spec)
    (plane,) = found.matrix.parts[0].planes
    read = gguf.quants.dequantize(plane, kind(name))
    for part in found.matrix.terms[1:]:
        left, right = part.factored()
        read = read + left @ right
    np.testing.assert_allclose(found.to_dense(), read, rtol=0, atol=1e-6)
    if rank == 0:
        assert same_bits(found.to_dense(), read)
    assert found.matrix.gain == 1.0
    assert found.rank == rank


@pytest.mark.parametrize(
    ("name", "instead"),
    [("q4_k", "iq4_nl"), ("q6_k", "q8_0"), ("q2_k", "iq4_nl"), ("q5_k", "q5_0"), ("q8_0", "q8_0")],
)
def test_rows_that_are_no_whole_blocks_get_smaller_ones(name, instead):
    quant, notes = QuantSpec(name, bits(name)).for_shape(8, 96)
    assert quant == QuantSpec(instead, bits(instead))
    assert [instead in note and "96" in note for note in notes] == [True] * (name != instead)


def test_tables_have_the_grid_that_is_asked_for():
    table = weights(70, 96)
    packed, record = quantize_table(table, 6, "q6_k")
    (part,) = packed.parts
    assert part.codebook == "q8_0"
    assert "q8_0 instead" in record["notes"][0]
    assert same_bits(packed.to_dense(), gguf.quants.dequantize(part.planes[0], kind("q8_0")))
    lost = np.linalg.norm(packed.to_dense() - table) / np.linalg.norm(table)
    assert record["relative_error"] == pytest.approx(lost, rel=1e-4)


def test_extremes_are_coded():
    for name in LAYOUTS:
        quantizer = encoder(name, bits(name))
        W = np.zeros((3, 256), np.float32)
        W[1], W[2, 5] = 1e-9, 1e6
        assert np.isfinite(quantizer.decode(quantizer.encode(W))).all(), name


@pytest.mark.parametrize("name", GRIDS)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 3.0))
@settings(max_examples=15)
def test_points_are_the_nearest_with_an_even_number_of_minus_signs(name, seed, scale):
    layout, rng = GRIDS[name], np.random.default_rng(seed)
    z = rng.standard_t(3, (1, 8)).astype(np.float32)
    counted = np.exp(rng.normal(0, 1, (1, 8))).astype(np.float32)
    search = layout.points, layout.digits, len(layout.magnitudes)
    codes = nearest_points(z, counted, np.full((1, 1), scale, np.float32), *search)
    values = layout.table[codes[0]]
    signs = np.array(list(itertools.product([1, -1], repeat=8)))
    signs = signs[signs.prod(axis=1) == 1]
    # Halves of eight are chosen apart, once their signs are known.
    least = np.zeros(len(signs))
    for a in range(0, 8, layout.width):
        at = slice(a, a + layout.width)
        wanted = signs[:, None, at] * layout.points.T * scale
        least += (counted[0, at] * np.square(z[0, at] - wanted)).sum(axis=-1).min(axis=1)
    found = (counted[0] * np.square(z[0] - values * np.float32(scale))).sum()
    assert (values < 0).sum() % 2 == 0
    assert found == pytest.approx(least.min(), rel=1e-4)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("what", ["sign", "point"])
def test_codes_off_the_grid_are_not_packed(name, what):
    quantizer = encoder(name, bits(name))
    codes = quantizer.encode(weights(2, 256))
    changed, last = codes.codes.copy(), len(quantizer.table) - 1
    if what == "sign":
        changed[..., 0] = last - changed[..., 0]
    else:
        own = {tuple(point) for point in quantizer.layout.digits}
        every = itertools.product(range((last + 1) // 2), repeat=quantizer.layout.width)
        missing = next(point for point in every if point not in own)
        changed[..., :8] = last // 2 + 1 + np.resize(missing, 8)
    with pytest.raises(ValueError, match=name):
        quantizer.pack(codes._replace(codes=changed))
