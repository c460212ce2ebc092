"""Tables whose inputs are rotated decode for ever to the values they were written with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from make_golden_inputs import SHAPES
from make_golden_v2 import digest
from packed_golden import V2

from lrc.formats.safetensors.file import SafetensorsFile
from lrc.nn.packed import PackedEmbedding
from lrc.parts.packed import read_matrix
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

GOLDEN = json.loads((V2 / "inputs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("bits", SHAPES)
def test_a_golden_table_decodes_to_what_was_written(bits):
    name = f"table{bits}"
    record = GOLDEN[name]["record"]
    assert record["rotation"] == "inputs"
    matrix = read_matrix(SafetensorsFile(V2 / "inputs.safetensors"), name, record)
    assert digest(matrix) == GOLDEN[name]["digest"]
    with np.load(V2 / "inputs.npz") as dense:
        expected = dense[name]
    bound = factor_bound(sum(matrix.shape), np.float32)
    assert_within(relative_difference(matrix.to_dense(), expected), bound, name)
    rows = PackedEmbedding(matrix).rows(np.arange(len(expected)))
    assert_within(relative_difference(rows, expected), bound, name)
