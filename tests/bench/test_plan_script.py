"""``bench/plan.py``: what holds, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parents[1] / "data" / "golden" / "run" / "lrc-run.json"


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"weights": 49317}, False),
        ({"peak_bytes": 221_000_000}, False),
        ({"seconds": 13.1}, False),
        ({"seconds": 12.9}, True),
    ],
)
def test_a_plan_holds_to_the_byte_a_tenth_and_a_third(
    script: Any, changes: dict[str, Any], holds: bool
) -> None:
    run = json.loads(RUN.read_text())
    found = script("plan").judged({"plan": run["plan"], "fact": run["fact"] | changes})
    assert found["holds"] is holds
    assert found["size_holds"] is ("weights" not in changes)
