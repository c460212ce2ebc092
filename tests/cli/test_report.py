"""Tables and numbers for people."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.cli.tables import (
    human_size,
    human_time,
    json_ready,
    matrix_table,
    number,
    table,
    with_error,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_400, "999.4 kB"),
        (269_060_552, "269.1 MB"),
        (4.2e9, "4.2 GB"),
        (7e12, "7.0 TB"),
    ],
)
def test_sizes(count: float | None, text: str) -> None:
    assert human_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (59.96, "1 min 00 s"), (61, "1 min 01 s"), (3600, "1 h 00 min")],
)
def test_times(seconds: float | None, text: str) -> None:
    assert human_time(seconds) == text


def test_numbers_without_a_value_are_dashes() -> None:
    assert number(None) == "-"
    assert with_error(None, None) == "-"
    assert with_error(2.0, None) == "2"
    assert with_error(2.0, math.nan) == "2"


@given(
    st.lists(
        st.tuples(st.text("abc", max_size=9), st.text("0123", max_size=9)), min_size=1, max_size=5
    )
)
def test_columns_line_up(rows: list[tuple[str, str]]) -> None:
    lines = table(("name", "value"), rows).split("\n")
    assert len(lines) == len(rows) + 2
    width = max(len(line) for line in lines)
    assert len(lines[1]) == width
    for (name, value), line in zip(rows, lines[2:], strict=True):
        assert line.startswith(name)
        assert line.endswith(value)


def test_matrix_table_shows_notes_and_dashes() -> None:
    text = matrix_table(
        {
            "a": {
                "shape": [48, 88],
                "bits_per_weight": 2.125,
                "parts": [{"kind": "codes", "codebook": "e8p", "bits": 2}],
                "relative_error": 0.11431,
                "damping": 0.01,
                "warnings": ["dead inputs: 3"],
                "notes": ["damped twice"],
            },
            "b": {},
        }
    )
    first, second = text.split("\n")[2:]
    assert first.split() == [
        *("a", "48x88", "2.125", "e8p", "2", "0.114", "0.01"),
        *("dead", "inputs:", "3;", "damped", "twice"),
    ]
    assert second.split() == ["b", *["-"] * 6]


def test_matrix_table_says_why_where_a_record_does() -> None:
    text = matrix_table({"a": {"reason": "3 bits: KL 0.02 at 2 bits"}, "b": {}})
    header, _, first, second = text.split("\n")
    assert header.split()[-1] == "chosen"
    assert first.endswith("3 bits: KL 0.02 at 2 bits")
    assert second.split() == ["b", *["-"] * 7]


def test_everything_becomes_json() -> None:
    value = {
        "array scalar": np.float32(0.5),
        "integer": np.int64(3),
        "nan": np.float64("nan"),
        "truth": np.bool_(True),
        1: (None, "x", {"deep": [1.5]}),
    }
    assert json.loads(json.dumps(json_ready(value), allow_nan=False)) == {
        "array scalar": 0.5,
        "integer": 3,
        "nan": None,
        "truth": True,
        "1": [None, "x", {"deep": [1.5]}],
    }
