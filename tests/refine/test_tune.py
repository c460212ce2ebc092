"""Tuning a compressed model: lower divergence, the same codes, the same bytes, all or nothing."""

from __future__ import annotations

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
from lrc.refine.adam import AdamW
from lrc.refine.options import TuneSpec
from lrc.refine.tune import tune
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
        "what": ("norms", "gains", "rows", "factors"), "files": (str(models / "text.txt"),),
        "windows": 8, "held_out": 2, "seqlen": 32, "passes": 2, "batch": 2, "rate": 0.01,
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


def divergence(folder: Path, models: Path, spec: TuneSpec) -> float:
    job = tuning._Job.open(folder, models / "dense", spec, 1, tuning.SILENT)
    values = {one.key: one.value for one in job.tunables}
    return job.divergence(values, job.divided()[1])


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
        codes = [t for t in one if one[t].dtype.kind == "u"]
        assert codes
        for tensor in codes:
            np.testing.assert_array_equal(one[tensor], two[tensor])
    assert changed == {".gain", ".scales", ".left_scales", ".left", ".right"}
    (said,) = after.report["tuned"]
    assert (said["kl_before"], said["kl_after"]) == (report.before, report.after)
    assert sorted(path.name for path in out.glob("*.safetensors")) == sorted(after.report["files"])
    assert decoding_error(out) < 2 * decoding_error(models / "packed")


def test_threads_change_no_byte(models: Path, tmp_path: Path) -> None:
    one, two = copied(models, tmp_path, "one"), copied(models, tmp_path, "two")
    tune(one, models / "dense", spec_of(models), threads=1)
    tune(two, models / "dense", spec_of(models), threads=3)
    assert contents(one) == contents(two)


def test_an_interrupt_leaves_the_best_so_far(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, moved, calls = copied(models, tmp_path), AdamW.moved, []

    def interrupted(*given):
        calls.append(0)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return moved(*given)

    monkeypatch.setattr(AdamW, "moved", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(out, models / "dense", spec_of(models), threads=1)
    (said,) = PackedCheckpoint.open(out).report["tuned"]
    assert said["steps"] in (2, 4)
    after = divergence(out, models, spec_of(models))
    np.testing.assert_allclose(after, said["kl_after"], rtol=1e-6)
    monkeypatch.undo()
    report = tune(out, models / "dense", spec_of(models, passes=1), threads=1)
    np.testing.assert_allclose(report.before, after, rtol=1e-6)
    assert len(PackedCheckpoint.open(out).report["tuned"]) == 1 + report.stored


def test_a_failed_write_leaves_what_was_there(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(models, tmp_path)
    before = open_model(out)[0].logits(np.arange(9)[None])

    def fails(*given):
        raise OSError("disk full")

    monkeypatch.setattr(tuning.store, "atomic_write_json", fails)
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
     ({"rate": 0.0}, "rate"), ({"windows": 0}, "windows=0")],
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
    given += ["--calib", str(models / "text.txt"), "--what", "norms,rows", "--rate", "0.01"]
    given += ["--windows", "8", "--held-out", "2", "--seqlen", "32", "--passes", "1"]
    assert cli.main([*given, "--batch", "4", "--checks", "2", "--seed", "3"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == 2
    (tuned,) = PackedCheckpoint.open(out).report["tuned"]
    assert tuned["kl_after"] == said["after"]
    assert tuned["spec"]["what"] == ["norms", "rows"]
    assert cli.main([*given[:4], "--minutes", "0"]) == 1
    assert "--minutes" in capsys.readouterr().err
