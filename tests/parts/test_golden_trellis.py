"""Stored trellis matrices decode for ever to the values they were written with."""

from __future__ import annotations

import json

import pytest
from make_golden_trellis import CASES, RECORDS, TENSORS
from make_golden_v1 import digest

from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts.packed import read_matrix

WRITTEN = json.loads(RECORDS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WRITTEN)
def test_golden_trellises_decode_to_what_was_written(name: str) -> None:
    matrix = read_matrix(SafetensorsFile(TENSORS), name, WRITTEN[name])
    assert digest(matrix) == WRITTEN[name]["sha256"]


def test_golden_trellises_are_of_every_kind() -> None:
    assert set(WRITTEN) == set(CASES)
    assert {record["bits"] for record in WRITTEN.values()} == {2, 3, 4}
