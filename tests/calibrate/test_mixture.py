"""Windows of several sources: how many of each, and in what order."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import tiny_model

from lrc.base.progress import SILENT
from lrc.calibrate import shipped
from lrc.calibrate.mixture import calibration_windows
from lrc.cli.tables import calibration_line
from lrc.errors import CalibrationError, SpecError
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec

MODEL = tiny_model(vocab_size=258)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.open(tiny.write_model(tmp_path_factory.mktemp("tokens") / "model"))


@pytest.fixture
def text(tmp_path):
    (tmp_path / "a.txt").write_text("~" * 4000, encoding="utf-8")
    return str(tmp_path / "a.txt")


def drawn(tokenizer, spec, seed=5):
    return calibration_windows(spec, tokenizer, MODEL, seed=seed, threads=1, progress=SILENT)


@given(count=st.integers(1, 90), written=st.floats(0, 0.6), shipped=st.floats(0, 0.6))
def test_every_window_has_a_source(count, written, shipped):
    parts = {"nsamples": count, "written": written, "shipped": shipped}
    left = count - round(count * written) - round(count * shipped)
    if left < 1:
        with pytest.raises(SpecError, match="leave no window"):
            CalibrationSpec(("a.txt",), **parts)
        return
    counts = CalibrationSpec(("a.txt",), **parts).window_counts()
    assert sum(counts) == count
    assert min(counts) >= 0
    assert abs(counts.written - count * written) <= 0.5
    assert abs(counts.shipped - count * shipped) <= 0.5
    alone = CalibrationSpec((), **parts).window_counts()
    assert alone == (0, count - counts.shipped, counts.shipped)


def test_sources_are_mixed_in_an_order_of_the_seed(tokenizer, text):
    spec = CalibrationSpec((text,), 20, 16, written=0.25, shipped=0.25)
    found = drawn(tokenizer, spec)
    from_file = (found.windows == tokenizer.encode("~")[0]).all(axis=1)
    assert from_file.sum() == 10
    assert 0 < from_file[:10].sum() < 10
    np.testing.assert_array_equal(found.windows, drawn(tokenizer, spec).windows)
    assert (found.windows != drawn(tokenizer, spec, seed=6).windows).any()
    assert list(found.record["parts"].values()) == [10, 5, 5]
    assert found.record["files"][0]["tokens"] == 160
    line = calibration_line(found.record)
    assert "10 files, 5 written by the model, 5 shipped with Python 3." in line
    assert f"160 tokens of {text}" in line


def test_one_source_alone_is_as_it_is(tokenizer, text):
    alone = drawn(tokenizer, CalibrationSpec((text,), 4, 16))
    assert alone.record["source"] == "files"
    assert "parts" not in alone.record
    prose = drawn(tokenizer, CalibrationSpec((), 4, 16, shipped=1.0))
    assert prose.record["source"].startswith("shipped with Python 3.")
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = "".join((root / f"{name}.py").read_text("utf-8") for name in shipped.MODULES
                      if (root / f"{name}.py").is_file())  # fmt: skip
    for window in prose.windows:
        assert tokenizer.decode(window) in sources


def test_a_python_without_sources_says_what_to_give(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr(shipped.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(CalibrationError, match=r"has no source of Python.*--calib FILE"):
        drawn(tokenizer, CalibrationSpec((), 4, 16, shipped=0.5))


def test_files_that_no_window_is_left_for_are_refused():
    with pytest.raises(SpecError, match=r"written=0.5 and shipped=0.5 leave no window of 8"):
        CalibrationSpec(("a.txt",), 8, written=0.5, shipped=0.5)
    with pytest.raises(SpecError, match=r"shipped=1\.5 must lie"):
        CalibrationSpec(shipped=1.5)
