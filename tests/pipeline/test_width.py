"""The width of a model that nobody chose one for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrc.models.opened import open_original
from lrc.pipeline import width


@pytest.mark.parametrize(("least", "bits"), [(10**9, 4), (1, 3)])
def test_it_follows_the_weights_of_the_matrices(
    model: Path, monkeypatch: pytest.MonkeyPatch, least: int, bits: int
) -> None:
    monkeypatch.setattr(width, "WIDTHS", ((least, 3), (0, 4)))
    spec = width.default_spec(open_original(model)[0])
    assert spec.decompose.quant.bits == bits


@pytest.mark.parametrize(
    ("options", "bits"),
    [((), 4), (("--bits", "2"), 2), (("--preset", "fast"), 4), (("--codebook", "e8p"), 2)],
)
def test_the_command_takes_it_where_no_option_says_more(
    lrc, model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path, options, bits: int
) -> None:
    lrc("compress", model, "-o", tmp_path / "out", "--calib", text, *fast, *options).check()
    spec = json.loads((tmp_path / "out" / "lrc.json").read_text())["spec"]
    assert spec["decompose"]["quant"]["bits"] == bits
