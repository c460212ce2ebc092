"""Matrices on the basis of another decode for ever to the values they were written with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from make_golden_basis import SIZES
from make_golden_v2 import digest
from packed_golden import V2

from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts.packed import read_matrix
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

GOLDEN = json.loads((V2 / "basis.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_matrix_decodes_to_what_was_written(name: str) -> None:
    record = GOLDEN[name]["record"]
    kind = "on_basis" if name.startswith("other") else "low_rank"
    assert [part["kind"] for part in record["parts"]] == [kind]
    assert {part["bits"] for of in GOLDEN.values() for part in of["record"]["parts"]} == set(SIZES)
    matrix = read_matrix(SafetensorsFile(V2 / "basis.safetensors"), name, record)
    assert digest(matrix) == GOLDEN[name]["digest"]
    with np.load(V2 / "basis.npz") as dense:
        expected = dense[name]
    bound = factor_bound(sum(matrix.shape), np.float32)
    assert_within(relative_difference(matrix.to_dense(), expected), bound, name)
