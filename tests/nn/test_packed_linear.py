"""Packed layers give the product with the dense matrix that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import CODEBOOKS, TRELLISES, random_matrix

from lrc.errors import FormatError
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.nn.linear import make_linear
from lrc.nn.packed import PackedEmbedding, PackedLinear
from lrc.parts.codes import Codes
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

every_codebook = pytest.mark.parametrize("codebook", CODEBOOKS, ids=str)


def tokens(shape, seed=9):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_product(layer, x, expected_bias=None):
    W = layer.matrix.to_dense().astype(np.float64)
    expected = x.astype(np.float64) @ W.T
    if expected_bias is not None:
        expected = expected + expected_bias
    y = layer(x)
    assert y.shape == expected.shape
    assert y.dtype == np.float32
    assert_within(relative_difference(y, expected), factor_bound(max(layer.shape), np.float32))


@every_codebook
@pytest.mark.parametrize("rotation", ["none", "hadamard", "hadamard-real"])
@pytest.mark.parametrize("leading", [(), (1,), (1, 1), (7,), (2, 3)])
def test_packed_linear_equals_the_dense_matrix(codebook, rotation, leading):
    layer = PackedLinear(random_matrix((20, 36), codebook, rotation=rotation))
    assert_product(layer, tokens((*leading, 36)))


@every_codebook
@given(
    m=st.integers(1, 30),
    n=st.integers(1, 40),
    rank=st.sampled_from([0, 1, 3]),
    count=st.sampled_from([1, 2]),
    row_scales=st.booleans(),
)
def test_any_shape(codebook, m, n, rank, count, row_scales):
    matrix = random_matrix((m, n), codebook, rank=rank, row_scales=row_scales)
    assert_product(PackedLinear(matrix), tokens((count, n)))


@pytest.mark.parametrize("codebook", TRELLISES, ids=str)
@given(
    m=st.sampled_from([16, 48, 192, 576]),
    n=st.integers(1, 40),
    rank=st.sampled_from([0, 3]),
    count=st.sampled_from([1, 2]),
    row_scales=st.booleans(),
)
def test_any_shape_of_a_trellis(codebook, m, n, rank, count, row_scales):
    matrix = random_matrix((m, n), codebook, rank=rank, row_scales=row_scales)
    assert_product(PackedLinear(matrix), tokens((count, n)))


@pytest.mark.parametrize("count", [1, 3])
def test_groups(count):
    matrix = random_matrix((10, 37), ("lloyd-max", 3), group_size=16)
    assert_product(PackedLinear(matrix), tokens((count, 37)))


def test_one_token_equals_a_column_of_many():
    layer = PackedLinear(random_matrix((24, 48)))
    x = tokens((5, 48))
    whole, single = layer(x), np.stack([layer(row) for row in x])
    assert_within(relative_difference(single, whole), factor_bound(48, np.float32))


@pytest.mark.parametrize("count", [1, 3])
def test_bias_is_added_in_the_original_basis(count):
    bias = tokens(12, seed=4)
    layer = PackedLinear(random_matrix((12, 24)), bias)
    assert_product(layer, tokens((count, 24)), bias)


def test_wrong_bias_is_refused():
    with pytest.raises(FormatError, match="bias"):
        PackedLinear(random_matrix((12, 24)), tokens(24))


def test_tiles_cover_all_rows():
    layer = PackedLinear(random_matrix((1027, 16), rank=0))
    assert_product(layer, tokens((2, 16)))


@pytest.mark.parametrize(
    ("codebook", "group"),
    [*((c, 0) for c in CODEBOOKS + TRELLISES), (("uniform", 8), 64), (("uniform", 3), 16)],
    ids=str,
)
@pytest.mark.parametrize("row_scales", [True, False])
@pytest.mark.parametrize("shape", [(4160, 36), (48, 200)], ids=str)
def test_integer_activations(codebook, group, row_scales, shape):
    """15 bits where that is allowed, and exactly as before where it is not."""
    matrix = random_matrix(shape, codebook, group_size=group, row_scales=row_scales)
    layer, x = PackedLinear(matrix), tokens(shape[1])
    exact = layer(x)
    fast = layer(x, Execution(integers=True))
    np.testing.assert_array_equal(layer(x, Execution(Team(2), integers=True)), fast)
    np.testing.assert_array_equal(layer(x, Execution(Team(2))), exact)
    assert_within(relative_difference(fast, exact), 2.0**-12)


@pytest.mark.parametrize(("codebook", "group"), [(("uniform", 8), 64), (("lloyd-max", 3), 0)])
def test_what_a_few_tokens_give_is_their_own(codebook, group):
    layer = PackedLinear(random_matrix((4160, 70), codebook, group_size=group, rotation="none"))
    x, execution = tokens((9, 70)), Execution(integers=True)
    found = layer(x, execution)
    assert_within(relative_difference(found, layer(x)), 2.0**-18)
    np.testing.assert_array_equal(layer(x, Execution(Team(2), integers=True)), found)
    np.testing.assert_array_equal(layer(x[3:5], execution), found[3:5])


@pytest.mark.parametrize("codebook", CODEBOOKS[:-1] + TRELLISES, ids=str)
@pytest.mark.parametrize("integers", [True, False])
def test_one_token_decodes_no_rows(codebook, integers, monkeypatch):
    layer = PackedLinear(random_matrix((16, 24), codebook))

    def refuse(*_: object) -> None:
        raise AssertionError("decoded rows")

    for way in ("rows", "decoded"):
        monkeypatch.setattr(Codes, way, refuse)
    execution = Execution(integers=integers)
    layer(tokens(24), execution)
    with pytest.raises(AssertionError, match="decoded rows"):
        layer(tokens((64, 24)), execution)


def test_input_is_not_modified_and_output_is_fresh():
    layer = PackedLinear(random_matrix((12, 24), rotation="none", rank=0))
    x = tokens((2, 24))
    before = x.copy()
    first = layer(x)
    first += 1
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(layer(x) + 1, first)


def test_no_tokens():
    layer = PackedLinear(random_matrix((12, 24)))
    assert layer(np.zeros((0, 24), np.float32)).shape == (0, 12)


def test_make_linear_takes_a_packed_matrix():
    matrix = random_matrix((8, 16))
    layer = make_linear(matrix)
    assert isinstance(layer, PackedLinear)
    assert layer.shape == (8, 16)


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize(("codebook", "group"), [(("lloyd-max", 8), 8), (("trellis12", 4), 0)])
def test_embedding_rows(codebook, group, rank):
    matrix = random_matrix((48, 24), codebook, rotation="none", rank=rank, group_size=group)
    ids = np.array([[3, 29], [0, 3]])
    rows = PackedEmbedding(matrix).rows(ids)
    assert rows.shape == (2, 2, 24)
    np.testing.assert_allclose(rows, matrix.to_dense()[ids], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(rows[0, 0], rows[1, 1])


def test_rotated_embedding_is_refused():
    with pytest.raises(FormatError, match="rotation"):
        PackedEmbedding(random_matrix((30, 24)))
