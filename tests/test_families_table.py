"""The README's table of families: none that it names lacks what the others have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from model_families import FAMILIES
from whisper_cases import CASES as WHISPER

from lrc.convert.gguf.architectures import CLASSES
from lrc.models import MODELS


class Row(NamedTuple):
    """Cells of a line."""

    of: str
    decodes_on: str
    gguf: str
    shown_on: str


def rows() -> dict[str, Row]:
    """Lines of the table by ``model_type``."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Model families")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \|(.+)\|(.+)\|(.+)\|(.+)\|$", table, re.MULTILINE)
    return {name: Row(*(cell.strip() for cell in cells)) for name, *cells in found}


ROWS = rows()


def test_the_table_names_every_family_and_no_other() -> None:
    assert set(ROWS) == set(MODELS)


@pytest.mark.parametrize("name", ROWS)
def test_a_family_has_three_configurations_with_golden_logits(name: str) -> None:
    cases = WHISPER if name == "whisper" else FAMILIES[name]
    assert len(cases) >= 3
    assert all(case.golden.with_suffix(".npz").is_file() for case in cases.values())


@pytest.mark.parametrize("name", ROWS)
def test_what_is_said_of_gguf_is_so(name: str) -> None:
    said = ROWS[name].gguf
    other = re.fullmatch(r"as `(\w+)`", said)
    assert said in ("yes", "no") or (other and other[1] in CLASSES)
    assert (said == "yes") == (name in CLASSES)
