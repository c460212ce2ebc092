"""A compression within a time: what is late is lowered and on record, the rest goes into tuning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_llama import tiny_model

import lrc.pipeline.improve as improving
from lrc.cli.commands.values import duration
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.compress import compress
from lrc.pipeline.improve import tune_spec
from lrc.pipeline.time_limit import TimeLimit, lower
from lrc.refine.tune import TuneReport
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec, MatrixSpec, QuantSpec

Lrc = Callable[..., Any]
SPEC = CompressSpec(decompose=DecomposeSpec(quant=QuantSpec("shuffle12", 4)))
QUICK = ("--nsamples", 4, "--seqlen", 32, "--rank", 0, "--threads", 1, "--quiet")


def steps(times: list[float], weights: int = 10, seconds: float = 100) -> list[int]:
    """How far the search is lowered before each weight, which is begun at these times."""
    clock = iter(times)
    limit = TimeLimit(seconds, weights, 0.0, lambda: next(clock))
    found = []
    for _ in times:
        limit.lowered(SPEC, ["a"])
        found.append(limit.step)
        limit.passed(1)
    return found


def test_what_is_on_time_stays_as_it_is() -> None:
    assert steps([9.0 * i for i in range(10)]) == [0] * 10


def test_what_is_late_is_lowered_step_by_step_and_no_further_than_there_is() -> None:
    assert steps([0, 12, 18, 24, 30]) == [0, 1, 1, 1, 1]  # 12 a weight, then 6
    assert steps([0, 40, 60, 80, 95, 99]) == [0, 2, 3, 3, 3, 3]


def test_each_step_looks_for_codes_less_hard_at_the_same_width() -> None:
    spec = CompressSpec(decompose=DecomposeSpec(quant=QuantSpec("shuffle12", 2)))
    found = [lower(spec, "a", step) for step in (1, 2, 3)]
    assert [own.quant.codebook for own in found] == ["shuffle12", "shuffle10", "lloyd-max"]
    assert {own.quant.bits for own in found} == {2}
    assert {own.polish_sweeps for own in found} == {0}
    assert {own.low_rank.rank for own in found} == {0}
    assert all(own.reason.startswith("late: ") for own in found)
    own = MatrixSpec(QuantSpec("uniform", 5, 64), LowRankSpec(8))
    asked = CompressSpec(matrices={"a": own})
    assert lower(asked, "a", 3).quant == own.quant  # it was asked for
    assert lower(asked, "a", 3).low_rank == own.low_rank
    assert asked.for_matrix("a").polish_sweeps == "auto"


def test_what_was_late_is_made_again_without_a_clock(model: Path, tmp_path: Path) -> None:
    windows = np.random.default_rng(3).integers(0, 256, (4, 24))
    late = compress(model, tmp_path / "late", SPEC, windows=windows, threads=1, seconds=0.0)
    reasons = {own.reason for own in late.spec.matrices.values()}
    assert len(reasons) >= 1
    assert all(reason.startswith("late: ") for reason in reasons)
    assert 0 < len(late.spec.matrices) < len(late.matrices)  # the first was not late
    again = compress(model, tmp_path / "again", late.spec, windows=windows, threads=1)
    assert again.spec == late.spec
    for name in PackedCheckpoint.open(late.path).report["files"]:
        assert file_digest(late.path / name) == file_digest(again.path / name), name
    manifests = [json.loads((of.path / "lrc.json").read_text()) for of in (late, again)]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("verb", ["plan", "compress"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--time", "1s"), ("--time 0.0167m is out of reach: the least work known takes about ",
                            "m or more, or fewer windows with --nsamples, or text with --calib")),
        (("--time", "1s", "--preset", "best"), ("what was asked for takes about",
                                                "leave --effort or --preset out")),
        (("--time", "5m", "--effort", "5"), ("--effort MINUTES and --time contradict each other",)),
    ],
)  # fmt: skip
def test_a_time_out_of_reach_is_refused_at_once(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, verb: str, options: Any, says: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import lrc.pipeline.plan as planning

    monkeypatch.setattr(planning, "_multiplying_speed", lambda _: 1e6)
    monkeypatch.setattr(planning, "_solving_speed", lambda *_: 1e4)
    monkeypatch.setattr(planning, "_table_speed", lambda *_: 1e6)
    shown = lrc(verb, model, "-o", tmp_path / "out", "--calib", text, *QUICK, *options)
    assert shown.code == 1
    assert all(part in shown.err for part in says), shown.err
    assert shown.err.splitlines()[-1].startswith("lrc: error: ")
    assert not list(tmp_path.iterdir())


TUNED = TuneReport(0.5, 0.4, 4.0, 4.1, 10, 4, 0.1, 0, 2.0, True)


def test_what_is_left_goes_into_tuning_and_on_record(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def tune(folder: Path, against: Path, spec: Any, **options: Any) -> TuneReport:
        assert (folder / "lrc.json").is_file()  # whole before it is tuned
        assert not options["stop"](1)
        asked.append(spec)
        return TUNED

    monkeypatch.setattr(improving, "tune", tune)
    out = tmp_path / "out"
    shown = lrc("compress", model, "-o", out, "--calib", text, "--time", "20m", *QUICK).check()
    (spec,) = asked
    assert spec.files == (str(text),)
    assert "are left to tune it in" in shown.err
    assert "KL divergence of held-out text from 0.5 to 0.4" in shown.out
    kept = json.loads((out / "lrc-run.json").read_text())["time"]
    assert kept["seconds"] == 1200
    assert kept["late"] == 0
    assert kept["depends_on_the_clock"]
    assert kept["tuned"]["after"] == 0.4


def test_an_interrupt_while_tuning_leaves_a_model_and_says_so(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> TuneReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(improving, "tune", stopped)
    out = tmp_path / "out"
    shown = lrc("compress", model, "-o", out, "--calib", text, "--time", "20m", *QUICK)
    assert shown.code == 130
    assert f"interrupted while tuning; {out} is complete, with the best" in shown.err
    lrc("verify", out).check()


def test_tuning_is_sized_by_what_is_left() -> None:
    model = tiny_model()
    assert tune_spec(model, 1e-3, 1e9, ()) is None
    some = tune_spec(model, 30, 1e9, ("text",))
    more = tune_spec(model, 300, 1e9, ("text",))
    assert some is not None
    assert more is not None
    assert some.tokens * some.passes < more.tokens * more.passes
    fixed = tune_spec(model, 30, 1e9, (), same_size=True)
    assert fixed is not None
    assert "signs" not in fixed.what
    assert fixed.files


@pytest.mark.parametrize("text", ["", "soon", "0", "1x", "5 m 3", "-1m", "m"])
def test_a_time_that_is_none_is_wrong_usage(text: str, lrc: Lrc, model: Path) -> None:
    with pytest.raises(SystemExit):
        lrc("plan", model, f"--time={text}")


def test_times_are_read() -> None:
    assert [duration(t) for t in ("1h30m", "90s", "2", "1.5h", "10min")] == [
        5400, 90, 120, 5400, 600,
    ]  # fmt: skip
