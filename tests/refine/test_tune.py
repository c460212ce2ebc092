"""Tuning a compressed model: lower divergence, the same codes, the same bytes, all or nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

import lrc
import lrc.cli.main as cli
from lrc.errors import LrcError
from lrc.models.opened import open_model
from lrc.parts.packed import PackedCheckpoint, matrix_tensors
from lrc.refine import tune as tuning
from lrc.refine.options import TuneSpec
from lrc.refine.rate import LADDER
from lrc.refine.tune import tune
from lrc.refine.tune_job import TuneJob
from lrc.run.generate import Decoder
from lrc.spec import (
    CalibrationSpec,
    CompressSpec,
    DecomposeSpec,
    LowRankSpec,
    MatrixSpec,
    QuantSpec,
)
from lrc.testing.tolerance import relative_difference


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dense model, the same compressed, with two kinds of factors, and a text."""
    folder = tmp_path_factory.mktemp("tune")
    tiny.write_model(folder / "dense")
    text = str(tiny.write_text(folder / "text.txt"))
    wide = MatrixSpec(QuantSpec("e8p", 2), LowRankSpec(rank=2, factor_bits=16))
    spec = CompressSpec(
        decompose=DecomposeSpec(quant=QuantSpec("e8p", 2), low_rank=LowRankSpec(rank=2)),
        calibration=CalibrationSpec(files=(text,), nsamples=4, seqlen=64),
        matrices={"model.layers.1.mlp.down_proj": wide},
    )
    lrc.compress(folder / "dense", folder / "packed", spec, threads=1)
    return folder


def spec_of(models: Path, **changes) -> TuneSpec:
    given = {
        "what": ("norms", "gains", "rows", "signs", "factors"),
        "files": (str(models / "text.txt"),),
        "tokens": 256, "held_out": 2, "seqlen": 32, "passes": 2, "batch": 2, "rate": 0.003,
        "checks": 4,
    }  # fmt: skip
    return TuneSpec(**{**given, **changes})


def copied(models: Path, tmp_path: Path, name: str = "out") -> Path:
    shutil.copytree(models / "packed", tmp_path / name)
    return tmp_path / name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def decoding_error(folder: Path) -> float:
    """How far token by token on integers, as it generates, is from whole windows on floats."""
    model, _ = open_model(folder)
    ids, decoder = np.random.default_rng(1).integers(0, 256, 12), Decoder(model, 13)
    logits = [decoder.advance(part).copy() for part in (ids[:8], *ids[8:, None])]
    return relative_difference(logits[-1], model.logits(ids[None])[0, -1])


class Base:
    """A model as a tuning finds it."""

    def __init__(self, folder: Path) -> None:
        self.base = folder

    def windows(self, drawn):
        return drawn()


def divergence(folder: Path, models: Path, spec: TuneSpec) -> float:
    job = TuneJob.open(Base(folder), models / "dense", spec, 1, tuning.SILENT)
    moves = {one.key: np.zeros_like(one.value) for one in job.tunables}
    return job.divergence(moves, job.held_out)


def test_what_is_stored_is_better_and_has_the_same_codes(models: Path, tmp_path: Path) -> None:
    out, spec = copied(models, tmp_path), spec_of(models)
    report = tune(out, models / "dense", spec, threads=1)
    assert report.stored
    assert report.after < 0.99 * report.before
    np.testing.assert_allclose(divergence(out, models, spec), report.after, rtol=1e-6)
    np.testing.assert_allclose(
        divergence(models / "packed", models, spec), report.before, rtol=1e-6
    )
    before, after = (PackedCheckpoint.open(path) for path in (models / "packed", out))
    assert before.names() == after.names()
    changed = set()
    for name in before._matrices:
        one, two = (
            matrix_tensors(name, before.linear(name)),
            matrix_tensors(name, after.linear(name)),
        )
        changed |= {t.removeprefix(name) for t in one if not np.array_equal(one[t], two[t])}
        codes = [t for t in one if one[t].dtype.kind == "u" and ".signs_" not in t]
        assert codes
        for tensor in codes:
            np.testing.assert_array_equal(one[tensor], two[tensor])
    assert changed == {
        ".gain", ".scales", ".left_scales", ".left", ".right", ".signs_in", ".signs_out",
    }  # fmt: skip
    (said,) = after.report["tuned"]
    assert (said["kl_before"], said["kl_after"]) == (report.before, report.after)
    assert sorted(path.name for path in out.glob("*.safetensors")) == sorted(after.report["files"])
    assert decoding_error(out) < 2 * decoding_error(models / "packed")


def test_threads_change_no_byte(models: Path, tmp_path: Path) -> None:
    one, two = copied(models, tmp_path, "one"), copied(models, tmp_path, "two")
    tune(one, models / "dense", spec_of(models), threads=1)
    tune(two, models / "dense", spec_of(models), threads=3)
    assert contents(one) == contents(two)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    gradient, calls = TuneJob.gradient, []

    def interrupted(*given):
        calls.append(0)
        if len(calls) > steps:
            raise KeyboardInterrupt
        return gradient(*given)

    monkeypatch.setattr(TuneJob, "gradient", interrupted)


@pytest.mark.parametrize("steps", [0, 3, 5])
def test_what_was_interrupted_goes_on_to_the_same_bytes(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    out, whole = copied(models, tmp_path), copied(models, tmp_path, "whole")
    expected = tune(whole, models / "dense", spec_of(models), threads=1)
    interrupt_after(monkeypatch, steps)
    with pytest.raises(KeyboardInterrupt):
        tune(out, models / "dense", spec_of(models), threads=1)
    monkeypatch.undo()
    if steps:
        (said,) = PackedCheckpoint.open(out).report["tuned"]
        assert said["steps"] in (2, 4)
        after = divergence(out, models, spec_of(models))
        np.testing.assert_allclose(after, said["kl_after"], rtol=1e-6)
    report = tune(out, models / "dense", spec_of(models), threads=1)
    assert report.resumed == (steps // 2) * 2
    assert (report.before, report.after) == (expected.before, expected.after)
    assert contents(out) == contents(whole)
    assert not out.with_name("out.tuning").exists()


def test_another_run_begins_with_what_is_stored(models: Path, tmp_path: Path) -> None:
    out = copied(models, tmp_path)
    one = tune(out, models / "dense", spec_of(models), threads=1)
    two = tune(out, models / "dense", spec_of(models, seed=1), threads=1)
    assert two.resumed == 0
    assert len(PackedCheckpoint.open(out).report["tuned"]) == 1 + two.stored
    assert two.before < one.before


def test_what_was_tuned_keeps_its_rate(models: Path, tmp_path: Path) -> None:
    """No trial of one step, whose noise hides what more steps would gain."""
    out = copied(models, tmp_path)
    one = tune(out, models / "dense", spec_of(models), threads=1)
    two = tune(out, models / "dense", spec_of(models, rate="auto"), threads=1)
    assert two.rate == one.rate


def test_another_text_is_another_run(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(models, tmp_path)
    interrupt_after(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        tune(out, models / "dense", spec_of(models), threads=1)
    monkeypatch.undo()
    text = tmp_path / "other.txt"
    text.write_text((models / "text.txt").read_text()[::-1])
    report = tune(out, models / "dense", spec_of(models, files=(str(text),)), threads=1)
    assert report.resumed == 0


def test_biases_are_added_in_16_bits_and_tuned_again(models: Path, tmp_path: Path) -> None:
    out, spec = copied(models, tmp_path), spec_of(models, what=("added",))
    report = tune(out, models / "dense", spec, threads=1)
    assert report.after < report.before
    before, after = PackedCheckpoint.open(models / "packed"), PackedCheckpoint.open(out)
    added = set(after.names()) - set(before.names())
    assert len(added) == sum(
        record["role"] == "matrix" for record in after.report["matrices"].values()
    )
    for name in added:
        assert after.stored_bytes(name) == 2 * after.shape(name)[0]
        assert np.any(after.dense(name))
    np.testing.assert_allclose(divergence(out, models, spec), report.after, rtol=1e-6)
    assert decoding_error(out) < 2 * decoding_error(models / "packed")
    again = tune(out, models / "dense", dataclasses.replace(spec, rate=0.001), threads=1)
    np.testing.assert_allclose(again.before, report.after, rtol=1e-6)
    assert again.after < again.before
    assert set(PackedCheckpoint.open(out).names()) == set(after.names())
    assert all(
        PackedCheckpoint.open(out).stored_bytes(name) == after.stored_bytes(name) for name in added
    )


def test_a_worse_check_goes_back_and_slower(models: Path, tmp_path: Path) -> None:
    """At a rate that is much too high, what follows is slower until it pays."""
    out = copied(models, tmp_path)
    fast = tune(out, models / "dense", spec_of(models, rate=0.3, passes=8, checks=16), threads=1)
    assert fast.stored


def test_minutes_shorten_the_plan(models: Path, tmp_path: Path) -> None:
    out = copied(models, tmp_path)
    report = tune(out, models / "dense", spec_of(models, passes=4), minutes=1e-6, threads=1)
    assert report.steps == 2
    assert report.stored


def test_a_failed_write_leaves_what_was_there(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(models, tmp_path)
    before = open_model(out)[0].logits(np.arange(9)[None])

    def fails(*given):
        raise OSError("disk full")

    monkeypatch.setattr(tuning.store, "write_manifest", fails)
    with pytest.raises(OSError, match="disk full"):
        tune(out, models / "dense", spec_of(models), threads=1)
    np.testing.assert_array_equal(open_model(out)[0].logits(np.arange(9)[None]), before)
    monkeypatch.undo()
    tune(out, models / "dense", spec_of(models), threads=1)
    assert sorted(p.name for p in out.glob("*.safetensors")) == sorted(
        PackedCheckpoint.open(out).report["files"]
    )


def test_nothing_is_stored_where_nothing_is_better(models: Path, tmp_path: Path) -> None:
    out = copied(models, tmp_path)
    report = tune(out, models / "dense", spec_of(models, rate=3.0), threads=1)
    assert not report.stored
    assert report.after == report.before
    assert contents(out) == contents(models / "packed")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"what": ("codes",)}, "cannot tune codes"), ({"what": ()}, "nothing to tune"),
     ({"rate": 0.0}, "rate"), ({"tokens": 0}, "tokens=0")],
)  # fmt: skip
def test_wrong_options_are_refused(models: Path, changes: dict, said: str) -> None:
    with pytest.raises(LrcError, match=said):
        spec_of(models, **changes)


def test_another_model_is_refused(models: Path, tmp_path: Path) -> None:
    out, other = copied(models, tmp_path), tiny.write_model(tmp_path / "other", seed=3)
    with pytest.raises(LrcError, match="was not made from"):
        tune(out, other, spec_of(models))
    with pytest.raises(LrcError, match="is not compressed"):
        tune(other, other, spec_of(models))


def test_the_command_tunes_and_says_so(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied(models, tmp_path)
    given = ["tune", str(out), "--against", str(models / "dense"), "--threads", "1", "--json"]
    given += ["--calib", str(models / "text.txt"), "--what", "norms,rows"]
    given += ["--tokens", "256", "--held-out", "2", "--seqlen", "32", "--passes", "1"]
    assert cli.main([*given, "--batch", "4", "--checks", "2", "--seed", "3"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == 2
    (tuned,) = PackedCheckpoint.open(out).report["tuned"]
    assert tuned["kl_after"] == said["after"] < said["before"]
    assert 0 < tuned["rate"] == said["rate"] <= 2 * LADDER[0]
    assert tuned["spec"]["what"] == ["norms", "rows"]
    assert cli.main([*given[:4], "--minutes", "0"]) == 1
    assert "--minutes" in capsys.readouterr().err
