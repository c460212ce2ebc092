"""``lrc demo`` on the tiny model: every stage runs once, and again only when it must."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lrc.cli.demo.run as demo
from lrc.base.progress import SilentProgress
from lrc.errors import LrcError
from lrc.spec import CompressSpec

Lrc = Callable[..., Any]
NAME = "tiny"


@pytest.fixture
def small_demo(
    model: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, float], demo.DemoResult]:
    """The demo with a tiny model, short windows and few tokens."""
    import lrc.cli.demo.model

    def fetch(folder: Path, progress: object = None) -> Path:
        if not (folder / NAME).exists():
            shutil.copytree(model, folder / NAME)
        return folder / NAME

    monkeypatch.setattr(lrc.cli.demo.model, "fetch_demo_model", fetch)
    monkeypatch.setattr(demo, "CTX", 64)
    monkeypatch.setattr(demo, "ANSWER_TOKENS", 6)

    def run(folder: Path, mix: float = 0.4) -> demo.DemoResult:
        spec = CompressSpec.from_dict(
            {
                "decompose": {"low_rank": {"rank": 2}, "iterations": 1},
                "calibration": {"files": [str(text)], "nsamples": 4, "seqlen": 64, "mix": mix},
            }
        )
        return demo.run_demo(folder, threads=1, windows=2, spec=spec)

    return run


def test_second_run_reuses_everything(
    small_demo: Callable[..., demo.DemoResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small_demo(tmp_path)
    assert first.original["bits_per_weight_linear"] == 32
    assert first.compressed["bits_per_weight_linear"] < 8
    assert first.compressed["kl_divergence"] > 0
    assert first.original["kl_divergence"] is None
    kept = json.loads((tmp_path / f"{NAME}-answer.json").read_text())["key"]["options"]
    assert kept[kept.index("--temp") + 1] == "0"  # what is shown is the model's, not a draw's
    assert first.rounded["bits_per_weight_linear"] < 8
    assert first.rounded["kl_divergence"] > first.compressed["kl_divergence"]
    for record in (first.original, first.compressed, first.rounded):
        assert record["perplexity"] > 1
        assert record["peak_rss_bytes"] > 0
        assert isinstance(record["text"], str)

    def must_not_run(*arguments: object, **options: object) -> None:
        raise AssertionError("a stage ran again")

    monkeypatch.setattr(sys.modules["lrc.pipeline.compress"], "compress", must_not_run)
    monkeypatch.setattr(sys.modules["lrc.measure.scoring"], "score_windows", must_not_run)
    monkeypatch.setattr(demo.subprocess, "run", must_not_run)
    assert small_demo(tmp_path) == first


def test_other_parameters_and_lost_files_make_stages_run_again(
    small_demo: Callable[..., demo.DemoResult], tmp_path: Path
) -> None:
    first = small_demo(tmp_path)
    other = small_demo(tmp_path, mix=0.0)
    assert other.compressed["perplexity"] != first.compressed["perplexity"]
    shutil.rmtree(tmp_path / f"{NAME}-compressed")
    (tmp_path / f"{NAME}-compressed-eval.json").write_text("{damaged")
    again = small_demo(tmp_path, mix=0.0)
    assert again.compressed["perplexity"] == other.compressed["perplexity"]


def test_a_plan_is_made_once(
    small_demo: Callable[..., demo.DemoResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another probe would choose other work, so another model; the first choice stays."""
    made = []

    def plan(original: Path, threads: int | None, began: float, evaluated: int) -> dict[str, Any]:
        made.append(evaluated)
        calibration = {"nsamples": 2 * len(made), "seqlen": 16}
        spec = {"calibration": calibration, "decompose": {"iterations": 1, "polish_sweeps": 0}}
        return {
            "effort": "least",
            "spec": CompressSpec.from_dict(spec).to_dict(),
            "seconds": 60.0,
            "fits": False,
            "multiplications_per_second": 1e9,
            "solved_weights_per_second": 1e6,
        }

    monkeypatch.setattr(demo, "demo_plan", plan)
    small_demo(tmp_path)
    notes = Notes()
    planned = demo.run_demo(tmp_path, threads=1, windows=2, progress=notes)
    assert made == [2 * demo.CTX]
    assert planned.plan["spec"]["calibration"]["nsamples"] == 2
    assert any("about 1 min 00 s from here on, which is more than planned" in n for n in notes.seen)
    assert demo.run_demo(tmp_path, threads=1, windows=2) == planned
    assert made == [2 * demo.CTX]


class Notes(SilentProgress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, text: str) -> None:
        self.seen.append(text)


def test_missing_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LrcError, match=r"gguf and jinja2.*pip install"):
        demo.run_demo(Path("never-made"))
    assert not Path("never-made").exists()


def test_table_and_answers(lrc: Lrc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {
        "perplexity": 23.5,
        "perplexity_stderr": 1.1,
        "kl_divergence": None,
        "kl_stderr": None,
        "top1_agreement": None,
        "tokens_per_second": 31.25,
        "peak_rss_bytes": 700_000_000,
        "bits_per_weight_linear": 16.0,
        "bits_per_weight_file": 16.1,
        "file_bytes": 269_000_000,
        "text": "Because of Rayleigh scattering.",
    }
    result = demo.DemoResult(
        record,
        record | {"kl_divergence": 0.5, "kl_stderr": 0.02},
        record | {"text": "Blue is a rare colour."},
        {"seconds": 100.0, "peak_rss_bytes": 2e9},
        {},
        "here",
    )
    monkeypatch.setattr(sys.modules["lrc.cli.commands.demo"], "run_demo", lambda *a, **k: result)
    shown = lrc("demo", "--dir", tmp_path, "--quiet").check().out
    for expected in (
        "23.5 ± 1.1",
        "0.5 ± 0.02",
        "269.0 MB",
        "1 min 40 s",
        "Rayleigh",
        "31.2",
        "rare",
    ):
        assert expected in shown
    assert lrc("demo", "--dir", tmp_path, "--quiet", "--json").check().json["original"] == record


def test_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo.default_folder() == tmp_path / "lrc" / "demo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert demo.default_folder() == tmp_path / ".cache" / "lrc" / "demo"
