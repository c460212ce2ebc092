"""Files of format version 2 decode for ever to the values they were written with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from make_golden_v2 import CASES, DENSE, digest
from packed_golden import GOLDEN, V2

from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint, read_matrix
from lrc.run.load import load
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

EXPECTED = json.loads((V2 / "expected.json").read_text(encoding="utf-8"))
RECORDS = json.loads((V2 / "matrices.json").read_text(encoding="utf-8"))


def check_golden(name: str, matrix: PackedMatrix) -> None:
    assert digest(matrix) == EXPECTED[name]
    with np.load(V2 / "expected.npz") as dense:
        if name in dense:
            bound = factor_bound(sum(matrix.shape), np.float32)
            assert_within(relative_difference(matrix.to_dense(), dense[name]), bound, name)


@pytest.mark.parametrize("name", RECORDS)
def test_golden_matrices_decode_to_what_was_written(name: str) -> None:
    file = SafetensorsFile(V2 / "matrices.safetensors")
    check_golden(name, read_matrix(file, name, RECORDS[name]))


def test_golden_matrices_are_of_every_kind() -> None:
    assert set(RECORDS) == {*CASES, "factors_only", "twice"}
    parts = [part for record in RECORDS.values() for part in record["parts"]]
    assert {part["kind"] for part in parts} == {"codes", "low_rank"}
    assert {part["codebook"] for part in parts if part["kind"] == "codes"} == {
        *("e8p", "e8p-rvq3", "e8p-rvq4", "uniform", "lloyd-max"),
        *("trellis8", "trellis12", "trellis16"),
    }
    assert {record["rotation"] for record in RECORDS.values()} == {"none", "hadamard"}


def test_golden_model_decodes_to_what_was_written() -> None:
    golden = PackedCheckpoint.open(GOLDEN)
    packed = {n: m for n in golden.names() if isinstance(m := golden.linear(n), PackedMatrix)}
    assert set(packed) == set(EXPECTED) - set(RECORDS)
    assert set(DENSE) < set(packed)
    for name, matrix in packed.items():
        check_golden(name, matrix)


def test_golden_model_runs() -> None:
    model = load(GOLDEN).model
    logits = model.logits(np.arange(40, 48)[None])
    assert logits.shape == (1, 8, 258)
    assert np.isfinite(logits).all()
