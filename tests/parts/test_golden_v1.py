"""Files of format version 1 decode for ever to the values they were written with.

What wrote them is of their time: the library writes a later version now.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from packed_cases import factors_of, rows_of_codes
from packed_golden import V1, copied, drop, put

from lrc.errors import FormatError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint, matrix_tensors, read_matrix
from lrc.parts.v1 import translated
from lrc.run.load import load
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

MODEL = V1 / "model"
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
EXPECTED = json.loads((V1 / "expected.json").read_text(encoding="utf-8"))
#: By file: the records of its matrices. Those of trellises hold their own digests.
RECORDS = {
    name: json.loads((V1 / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("matrices", "trellis")
}
CASES = [(file, name) for file, records in RECORDS.items() for name in records]


def digest(matrix: PackedMatrix) -> str:
    """The sha256 of Q, zeros where there is none, L and R as little-endian float32."""
    found = hashlib.sha256()
    for part in (rows_of_codes(matrix), *factors_of(matrix)):
        found.update(np.ascontiguousarray(part, "<f4").tobytes())
    return found.hexdigest()


def check_golden(name: str, matrix: PackedMatrix) -> None:
    assert digest(matrix) == EXPECTED[name]
    with np.load(V1 / "expected.npz") as dense:
        if name in dense:
            bound = factor_bound(sum(matrix.shape), np.float32)
            assert_within(relative_difference(matrix.to_dense(), dense[name]), bound, name)


def stored(file: str, name: str) -> PackedMatrix:
    opened = SafetensorsFile(V1 / f"{file}.safetensors")
    return read_matrix(opened, name, translated(opened, name, RECORDS[file][name]))


@pytest.mark.parametrize("name", RECORDS["matrices"])
def test_golden_matrices_decode_to_what_was_written(name: str) -> None:
    check_golden(name, stored("matrices", name))


@pytest.mark.parametrize("name", RECORDS["trellis"])
def test_golden_trellises_decode_to_what_was_written(name: str) -> None:
    assert digest(stored("trellis", name)) == RECORDS["trellis"][name]["sha256"]


def test_golden_matrices_are_of_every_kind() -> None:
    assert (len(RECORDS["matrices"]), len(RECORDS["trellis"])) == (9, 6)
    assert {r["codebook"] for r in RECORDS["matrices"].values()} == {
        *("e8p", "e8p-rvq3", "e8p-rvq4", "uniform", "lloyd-max", "none")
    }
    assert {r["rotation"] for r in RECORDS["matrices"].values()} == {"none", "hadamard"}
    assert {r["bits"] for r in RECORDS["trellis"].values()} == {2, 3, 4}


@pytest.mark.parametrize("file", RECORDS)
def test_tensors_are_written_today_as_they_were(file, tmp_path) -> None:
    tensors = {}
    for name in RECORDS[file]:
        tensors |= matrix_tensors(name, stored(file, name))
    write_safetensors(tmp_path / "x", tensors, {})
    assert (tmp_path / "x").read_bytes() == (V1 / f"{file}.safetensors").read_bytes()


def test_golden_model_decodes_to_what_was_written() -> None:
    golden = PackedCheckpoint.open(MODEL)
    packed = {n: m for n in golden.names() if isinstance(m := golden.linear(n), PackedMatrix)}
    assert set(packed) == set(EXPECTED) - set(RECORDS["matrices"])
    assert Q_PROJ in packed
    for name, matrix in packed.items():
        check_golden(name, matrix)


def test_golden_model_runs() -> None:
    model = load(MODEL).model
    logits = model.logits(np.arange(40, 48)[None])
    assert logits.shape == (1, 8, 258)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((drop("matrices", Q_PROJ, key), f"{Q_PROJ}.*{key}") for key in (
            "shape", "codebook", "bits", "rank", "factor_bits", "group_size", "rotation",
            "bits_per_weight")),
        (put(5, "matrices", Q_PROJ), f"{Q_PROJ} is not an object"),
        (put("e8p-rvq3", "matrices", Q_PROJ, "codebook"), "e8p-rvq3"),
        (put("none", "matrices", Q_PROJ, "codebook"), "no codebook 'none'"),
        (put("uniform", "matrices", Q_PROJ, "codebook"), "implies"),
        (put("dct", "matrices", Q_PROJ, "rotation"), "dct"),
        (put(3, "matrices", Q_PROJ, "rank"), "implies"),
        (put(0, "matrices", Q_PROJ, "rank"), "is no part of"),
        (put(-1, "matrices", Q_PROJ, "rank"), "rank -1"),
        (put(16, "matrices", Q_PROJ, "factor_bits"), "implies"),
        (put(9, "matrices", Q_PROJ, "factor_bits"), "bits 9"),
        (put(8, "matrices", Q_PROJ, "group_size"), "scales.*implies"),
        (put([24], "matrices", Q_PROJ, "shape"), "shape"),
        (put({}, "matrices", "model.extra.weight"), "model.extra.weight"),
    ],
)  # fmt: skip
def test_broken_records_of_version_1_are_refused(change, message, tmp_path) -> None:
    with pytest.raises(FormatError, match=message):
        PackedCheckpoint.open(copied(tmp_path, change, MODEL))
