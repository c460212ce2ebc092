"""Real numbers in the place of signs: stored in eight bits, refused where they do not fit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from make_golden_signs import NAME, matrices
from packed_cases import random_matrix
from packed_golden import V2

from lrc.errors import FormatError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts.packed import read_matrix
from lrc.parts.signs import (
    ROTATIONS,
    kernel_signs,
    pack_real_signs,
    rotation_of,
    unpack_signs,
)
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

RECORDS = json.loads((V2 / f"{NAME}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECORDS)
def test_golden_matrices_decode_to_what_was_written(name: str) -> None:
    matrix = read_matrix(SafetensorsFile(V2 / f"{NAME}.safetensors"), name, RECORDS[name])
    m, n = matrix.shape
    with np.load(V2 / f"{NAME}.npz") as expected:
        np.testing.assert_array_equal(unpack_signs(matrix.signs_in, n), expected[f"{name}.in"])
        np.testing.assert_array_equal(unpack_signs(matrix.signs_out, m), expected[f"{name}.out"])
        bound = factor_bound(m + n, np.float32)
        assert_within(relative_difference(matrix.to_dense(), expected[name]), bound, name)


def test_golden_matrices_are_of_every_rotation() -> None:
    tuned = {rotation for rotation in ROTATIONS if "real" in rotation}
    assert {record["rotation"] for record in RECORDS.values()} == tuned
    assert set(RECORDS) == set(matrices())


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_rotation_is_what_its_signs_are(rotation: str) -> None:
    matrix = random_matrix((12, 20), rotation=rotation)
    assert rotation_of(matrix.signs_in, matrix.signs_out) == rotation
    for other in set(ROTATIONS) - {rotation}:
        with pytest.raises(FormatError, match="signs_"):
            dataclasses.replace(matrix, rotation=other)


def test_signs_as_bits_and_as_numbers_are_the_same_matrix() -> None:
    bits = random_matrix((12, 20))
    numbers = {
        side: pack_real_signs(*2 * (unpack_signs(getattr(bits, side), size),))
        for side, size in (("signs_in", 20), ("signs_out", 12))
    }
    real = dataclasses.replace(bits, rotation="hadamard-real", **numbers)
    np.testing.assert_array_equal(real.to_dense(), bits.to_dense())
    assert real.stored_bits - bits.stored_bits == 8 * (20 + 12) - 8 * (3 + 2)


def test_numbers_are_rounded_to_the_nearest_code_and_end_with_the_last() -> None:
    values = np.array([1, -1, 1.003, -0.997, -5, 5, 0.2, -0.5], np.float32)
    signs = np.array([1, -1, 1, -1, -1, 1, -1, -1], np.float32)
    found = kernel_signs(pack_real_signs(values, signs))
    expected = np.array([256, -256, 257, -255, -318, 318, -192, -192]) / 256
    np.testing.assert_array_equal(found, expected)


def test_every_code_is_a_number_and_the_nearest_to_itself() -> None:
    codes = np.arange(-127, 128).astype(np.int8)
    found = kernel_signs(codes)
    assert (np.sign(found) == np.where(codes < 0, -1, 1)).all()
    again = pack_real_signs(found, found)
    np.testing.assert_array_equal(again[codes != 0], codes[codes != 0])
