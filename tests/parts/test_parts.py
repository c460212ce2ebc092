"""Every part obeys the laws of a part, and a new one costs its file and a row."""

from __future__ import annotations

import json

import numpy as np
import pytest
from packed_cases import CODEBOOKS, TRELLISES, random_factor, random_matrix
from toy_parts import Sparse

from lrc.base.threads import row_tiles
from lrc.errors import FormatError
from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts import PARTS, are_compiled
from lrc.parts.base import added
from lrc.parts.fields import check_fields
from lrc.parts.kept import Kept
from lrc.parts.low_rank import LowRank
from lrc.parts.on_basis import OnBasis
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

SHAPE = (192, 21)


def codes(codebook, group_size=0, *, row_scales=True):
    matrix = random_matrix(
        SHAPE, codebook, rank=0, group_size=group_size, row_scales=row_scales, seed=81
    )
    return matrix.parts[0]


def low_rank(rank, bits):
    rng = np.random.default_rng(83)
    return LowRank(*(random_factor(rank, length, bits, rng) for length in SHAPE))


def on_basis(rank, bits):
    whole = low_rank(rank, bits)
    return OnBasis(whole.left, whole.right, basis="other")


def kept(side, count):
    rng = np.random.default_rng(89)
    axis = ("rows", "columns").index(side)
    places = np.sort(rng.choice(SHAPE[axis], count, replace=False)).astype(np.uint32)
    values = rng.standard_normal((count, SHAPE[1 - axis])).astype(np.float16)
    return Kept(SHAPE, side, places, values)


CASES = {
    **{f"{name} {bits}": codes((name, bits)) for name, bits in CODEBOOKS[:-1] + TRELLISES},
    "one scale": codes(("e8p", 2), row_scales=False),
    "groups": codes(("uniform", 5), 8),
    **{f"rank {rank} at {bits}": low_rank(rank, bits) for rank, bits in ((1, 2), (3, 5), (2, 16))},
    **{
        f"rank {rank} at {bits} on a basis": on_basis(rank, bits)
        for rank, bits in ((3, 5), (2, 16))
    },
    "rows": kept("rows", 5),
    "columns": kept("columns", 7),
    "toy": Sparse.random(SHAPE, 40),
}
every = pytest.mark.parametrize("part", CASES.values(), ids=CASES.keys())


def in_turn(work, tiles):
    for tile in tiles:
        work(tile)


def whole(part):
    return part.rows(np.arange(SHAPE[0]))


def test_every_kind_has_a_case():
    assert {type(part) for part in CASES.values()} == {*PARTS.values(), Sparse}
    assert all(kind == part.kind for kind, part in PARTS.items())


def lent_to(part):
    """What the part reads of another matrix, by its own names."""
    borrowed = type(part).borrowed(part.record(), SHAPE)
    if not borrowed:
        return {}
    lender = LowRank(part.left, part.right).tensors()
    for side, (place, spec) in borrowed.items():
        assert place == f"other.{side}"
        assert spec == TensorSpec.of(lender[side])
    return {side: lender[side] for side in borrowed}


@every
def test_layout_is_that_of_the_tensors(part):
    record = json.loads(json.dumps(part.record()))
    check_fields("it", record, type(part).fields)
    specs = type(part).layout(record, SHAPE)
    tensors = part.tensors()
    assert specs == {name: TensorSpec.of(array) for name, array in tensors.items()}
    assert part.stored_bits == 8 * sum(spec.nbytes for spec in specs.values())
    back = type(part).read(record, SHAPE, tensors | lent_to(part))
    assert back.record() == part.record()
    np.testing.assert_array_equal(whole(back), whole(part))
    assert type(part).label(record)


@pytest.mark.parametrize("part", [low_rank(3, 5), codes(("e8p", 2))], ids=["low_rank", "codes"])
def test_fields_that_are_missing_are_named(part):
    for field in type(part).fields:
        record = part.record()
        del record[field]
        with pytest.raises(FormatError, match=f"it lacks {field}"):
            check_fields("it", record, type(part).fields)


def test_no_two_kinds_have_a_tensor_in_common():
    kinds = {type(part): part for part in CASES.values()}
    names = [name for part in kinds.values() for name in part.tensors()]
    assert len(names) == len(set(names))


@every
def test_rows_are_rows_of_the_whole(part):
    dense = whole(part)
    assert (dense.shape, dense.dtype) == (part.shape, np.float32) == (SHAPE, np.float32)
    ids = np.array([8, 0, 0, 150])
    bound = factor_bound(8, np.float32)
    assert_within(relative_difference(part.rows(ids), dense[ids]), bound)
    assert part.rows(ids[:0]).shape == (0, SHAPE[1])
    for rows in (slice(0, 192), slice(3, 130), slice(64, 80)):
        assert_within(relative_difference(part.decoded(rows), dense[rows]), bound)
    assert all(tile.start % part.tile == 0 for tile in row_tiles(SHAPE[0], part.tile))


@every
@pytest.mark.parametrize("count", [0, 1, 5])
def test_products_are_those_of_the_whole(part, count):
    z = np.random.default_rng(85).standard_normal((count, SHAPE[1])).astype(np.float32)
    before = z.copy()
    found = part.apply(z, in_turn, integers=False)
    assert (found.shape, found.dtype) == ((count, SHAPE[0]), np.float32)
    np.testing.assert_array_equal(z, before)
    expected = z.astype(np.float64) @ whole(part).astype(np.float64).T
    if count:
        assert_within(relative_difference(found, expected), factor_bound(192, np.float32))
        close = part.apply(z, in_turn, integers=True)
        assert_within(relative_difference(close, expected), 2.0**-12)


@every
def test_factors_multiply_to_the_whole(part):
    product = part.factored()[0]
    for factor in part.factored()[1:]:
        product = product @ factor
    assert_within(relative_difference(product, whole(part)), factor_bound(8, np.float32))


@every
def test_a_gain_multiplies_everything(part):
    louder = part.at(2.0)
    np.testing.assert_array_equal(whole(louder), 2 * whole(part))
    z = np.ones((2, SHAPE[1]), np.float32)
    ways = (part.apply(z, in_turn, integers=False), louder.apply(z, in_turn, integers=False))
    np.testing.assert_array_equal(2 * ways[0], ways[1])
    assert louder.record() == part.record()


def test_sums_are_in_order_and_in_place_of_the_first():
    first, second = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    assert added([first, second], (2, 3)) is first
    np.testing.assert_array_equal(first, 3)
    np.testing.assert_array_equal(second, 2)
    np.testing.assert_array_equal(added([], (2, 3)), np.zeros((2, 3)))


def test_the_engine_has_one_place_of_each_kind(monkeypatch):
    monkeypatch.setitem(PARTS, "sparse", Sparse)
    some, pair, alone = (part.record() for part in (CASES["e8p 2"], low_rank(3, 5), CASES["toy"]))
    assert are_compiled([])
    assert are_compiled([some])
    assert are_compiled([pair])
    assert are_compiled([some, pair])
    assert not are_compiled([some, some])
    assert not are_compiled([some, pair, pair])
    assert not are_compiled([some, alone])


def test_places_that_nobody_writes_are_refused():
    part = kept("rows", 3)
    for places in ([2, 1, 3], [1, 1, 2], [0, 1, SHAPE[0]]):
        with pytest.raises(FormatError, match="places of rows are not ascending, or not below"):
            Kept(SHAPE, "rows", np.array(places, np.uint32), part.values)
    with pytest.raises(FormatError, match="193 rows of 192 are kept"):
        Kept.layout({"side": "rows", "count": 193}, SHAPE)
