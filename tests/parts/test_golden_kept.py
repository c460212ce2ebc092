"""Matrices of which rows or columns are kept decode for ever to what was written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from make_golden_kept import SHAPE, SIDES
from make_golden_v2 import digest
from packed_golden import V2

from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts.packed import read_matrix

GOLDEN = json.loads((V2 / "kept.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("side", SIDES)
def test_a_golden_matrix_decodes_to_what_was_written(side: str) -> None:
    matrix = read_matrix(SafetensorsFile(V2 / "kept.safetensors"), side, GOLDEN[side]["record"])
    assert digest(matrix) == GOLDEN[side]["digest"]
    with np.load(V2 / "kept.npz") as dense:
        np.testing.assert_array_equal(matrix.to_dense(), dense[side])
    assert matrix.shape == SHAPE
    axis = SIDES.index(side)
    assert (np.abs(matrix.to_dense()).sum(1 - axis) == 0).sum() == SHAPE[axis] - 4
