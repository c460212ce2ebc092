"""A budget of bits or bytes: kept to the byte, spent where it helps, resumed, explained."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import lrc.cli.main as cli
from lrc.allocation import allocate, survey_store
from lrc.allocation import survey as surveying
from lrc.allocation.api import predicted
from lrc.allocation.sizes import linear_bytes, weight_file_bytes, weights_of
from lrc.base.progress import Advance, SilentProgress
from lrc.cli.tables import allocation_line
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.measure.storage import storage
from lrc.models import declared
from lrc.models.tensors import Tensors
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.compress import compress
from lrc.spec import CalibrationSpec, CompressSpec, LowRankSpec, MatrixSpec, QuantSpec

Lrc = Callable[..., Any]
# The lattice: quick, and it fits every shape of the tiny model.
QUICK = ("--preset", "fast", "--nsamples", "6", "--seqlen", "64", "--iterations", "2")
COMMON = (*QUICK, "--threads", "1", "--quiet")


def digests(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.name != "lrc-run.json"  # which has times in it
    }


@pytest.fixture(scope="module")
def budgeted(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("budgeted") / "model"
    command = ["compress", model, "-o", out, "--calib", text, "--target-bpw", 3.1, *COMMON]
    assert cli.main([str(part) for part in command]) == 0
    return out


def tensors_of(model: Path) -> Tensors:
    return declared(Checkpoint.open(model).config)


def written_spec(folder: Path) -> CompressSpec:
    return CompressSpec.from_dict(json.loads((folder / "lrc.json").read_bytes())["spec"])


@pytest.mark.parametrize(
    ("untied", "options"),
    [
        (False, ("--bits", 2, "--rank", 0)),
        (True, ("--bits", 3, "--rank", 0, "--embed-bits", 5, "--head-bits", 16)),
        (False, ("--recipe", "low-rank", "--rank", 5, "--factor-bits", 16)),
        (False, ("--rank", 7, "--factor-bits", 5, "--rotation", "none", "--embed-bits", 16)),
        (False, ("--codebook", "trellis12", "--bits", 3, "--rank", 0)),
        (False, ("--codebook", "lloyd-max", "--bits", 5, "--group-size", 24, "--recipe", "ldlq")),
    ],
    ids=str,
)
def test_sizes_are_known_before_to_the_byte(
    lrc: Lrc, text: Path, tmp_path: Path, untied: bool, options: tuple[object, ...]
) -> None:
    source = tiny.write_model(tmp_path / "source", tie_word_embeddings=not untied, seed=907)
    out = tmp_path / "out"
    common = ("--nsamples", 3, "--seqlen", 32, "--iterations", 1, "--threads", 1, "--quiet")
    lrc("compress", source, "-o", out, "--calib", text, *common, *options).check()
    spec, dense = written_spec(out), tensors_of(source)
    shown = lrc("inspect", out, "--json").check().json
    assert weight_file_bytes(dense, spec) == shown["file_bytes"]
    assert shown["file_bytes"] == sum(f.stat().st_size for f in out.glob("*.safetensors"))
    stored = linear_bytes(dense, spec)
    assert 8 * stored / weights_of(dense) == pytest.approx(shown["bits_per_weight_linear"])


def test_a_rate_is_kept_and_spent(lrc: Lrc, model: Path, budgeted: Path) -> None:
    opened = PackedCheckpoint.open(budgeted)
    report, rate = opened.report, storage(opened)["bits_per_weight_linear"]
    assert rate is not None
    assert 2.9 < rate <= 3.1
    spent = 8 * report["allocation"]["size"] / weights_of(tensors_of(model))
    assert spent == pytest.approx(rate)
    linear = [r for name, r in report["matrices"].items() if name.endswith("_proj.weight")]
    assert {record["parts"][0]["bits"] for record in linear} > {2}
    assert all("KL" in record["reason"] for record in linear)
    summary = report["allocation"]
    low, high = summary["predicted_kl"]
    surveyed = summary["surveyed_kl"]
    assert (low, high) == pytest.approx((0.43 * surveyed, 0.58 * surveyed))
    assert "measured on one model of 135M weights" in summary["predicted_kl_origin"]
    told = lrc("inspect", budgeted).check().out.splitlines()[-1]
    assert f"predicted KL {low:.2g} to {high:.2g} (0.43 to 0.58 of the survey's, measured" in told
    assert report["spec"]["embed_bits"] == 5


def test_the_choice_is_shown(lrc: Lrc, budgeted: Path, packed: Path) -> None:
    said = lrc("inspect", budgeted).check().out
    assert "chosen for the budget: " in said
    assert "predicted KL" in said
    assert "bits: KL" in said
    plain = lrc("inspect", packed).check().out
    assert "chosen" not in plain


def test_a_size_is_kept_with_its_tables(lrc: Lrc, model: Path, text: Path, tmp_path: Path) -> None:
    spec = CompressSpec.from_dict(
        {"decompose": {"low_rank": {"rank": 0}}, "embed_bits": 6, "head_bits": 6}
    )
    target = weight_file_bytes(tensors_of(model), spec) + 700
    out = tmp_path / "out"
    record = (
        lrc("compress", model, "-o", out, "--calib", text, "--target-size", f"{target / 1000}kB",
            "--rank", 0, "--json", *COMMON)
        .check()
        .json
    )  # fmt: skip
    assert record["file_bytes"] <= target
    assert record["file_bytes"] > 0.95 * target
    assert record["allocation"]["size"] == record["file_bytes"]
    assert record["spec"]["embed_bits"] in (4, 5, 6, 8)
    assert record["spec"]["embed_bits"] == record["spec"]["head_bits"]
    assert record["spec"] == written_spec(out).to_dict() | {
        "calibration": record["spec"]["calibration"]
    }


def test_what_was_never_measured_is_not_predicted_to_be_less() -> None:
    spec = CompressSpec(calibration=CalibrationSpec(streams="original"))
    told = predicted(0.25, spec)
    assert told["predicted_kl"] == [0.25, 0.25]
    assert "never measured" in told["predicted_kl_origin"]
    line = allocation_line({"counts": {"2 bits": 3}, **told})
    assert "predicted KL 0.25 (the survey's own" in line


def test_a_search_keeps_the_budget_and_helps(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--target-bpw", 2.9, "--generations", 3, "--calib", text)
    lrc("compress", model, "-o", out, *options, *COMMON).check()
    summary = PackedCheckpoint.open(out).report["allocation"]
    search = summary["search"]
    assert len(search) == 4
    assert (np.diff(search) <= 0).all()
    assert summary["surveyed_kl"] == search[-1]
    rate = storage(PackedCheckpoint.open(out))["bits_per_weight_linear"]
    assert rate is not None
    assert rate <= 2.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target-size", "1KB"), "least possible is "),
        (("--target-bpw", "1.9"), "least possible is 2."),
        (("--target-bpw", "2.5", "--bits", "3"), "--bits and a target contradict"),
        (("--target-size", "1MB", "--codebook", "e8p"), "--codebook and a target contradict"),
        (("--generations", "3"), "needs --target"),
        (("--target-bpw", "-2"), "exactly one"),
        (
            ("--target-bpw", "3", "--recipe", "low-rank", "--rank", "4"),
            "recipe low-rank has its rank and its bits given",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    outcome = lrc("compress", model, "-o", tmp_path / "out", "--calib", text, *COMMON, *options)
    assert outcome.code == 1
    assert said in outcome.err
    assert not list(tmp_path.iterdir())


def test_the_least_size_named_is_possible(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    command = ("compress", model, "-o", tmp_path / "out", "--calib", text, *COMMON)
    err = lrc(*command, "--target-size", 1).err
    least = int(err.split("least possible is ")[1].split()[0])
    assert lrc(*command, "--target-size", least - 1).code == 1
    lrc(*command, "--target-size", least).check()
    assert PackedCheckpoint.open(tmp_path / "out").nbytes == least


class Interrupting(SilentProgress):
    """Presses Ctrl-C when bars have moved ``ticks`` times in all."""

    def __init__(self, ticks: int) -> None:
        self.left = ticks

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Advance]:
        def advance(n: int = 1) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        yield advance


# 14 matrices of the survey, 3 steps of the sensitivities, then the compression.
@pytest.mark.parametrize("ticks", [3, 9, 16, 20, 27])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    lrc: Lrc,
    model: Path,
    text: Path,
    budgeted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ticks: int,
) -> None:
    out = tmp_path / "out"
    command = ("compress", model, "-o", out, "--calib", text, "--target-bpw", "3.1", *COMMON)
    with monkeypatch.context() as patch:
        patch.setattr(cli, "NotesOnly", lambda _: Interrupting(ticks))
        assert lrc(*command).code == 130
    lrc(*command).check()
    assert digests(out) == digests(budgeted)


def test_threads_do_not_change_the_bytes(
    lrc: Lrc, model: Path, text: Path, budgeted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--calib", text, "--target-bpw", "3.1", *COMMON, "--threads", 2)
    lrc("compress", model, "-o", out, *options).check()
    assert digests(out) == digests(budgeted)


def test_a_survey_serves_every_target(
    lrc: Lrc,
    model: Path,
    text: Path,
    budgeted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common = ("--calib", text, *COMMON, "--survey", tmp_path / "kept" / "survey")
    lrc("compress", model, "-o", tmp_path / "first", "--target-bpw", 2.7, *common).check()
    with monkeypatch.context() as patch:
        patch.setattr(survey_store, "measure", None)
        patch.setattr(surveying, "_matrix_candidates", None)
        lrc("compress", model, "-o", tmp_path / "second", "--target-bpw", 3.1, *common).check()
        # Nor does it depend on how the target of a matrix is made.
        mixed = ("--target-bpw", 3.1, "--mix", 0.2, *common)
        lrc("compress", model, "-o", tmp_path / "mixed", *mixed).check()
    assert digests(tmp_path / "second") == digests(budgeted)
    lrc("compress", model, "-o", tmp_path / "alone", *mixed[:-2]).check()
    assert digests(tmp_path / "mixed") == digests(tmp_path / "alone") != digests(budgeted)
    assert digests(tmp_path / "first") != digests(budgeted)
    # A whole file has tables to measure too; its answer is that of a survey made for it.
    size = ("--target-size", "40kB")
    lrc("compress", model, "-o", tmp_path / "third", *size, *common).check()
    lrc("compress", model, "-o", tmp_path / "fourth", *size, *common[:-2]).check()
    assert digests(tmp_path / "third") == digests(tmp_path / "fourth")


def test_a_survey_of_something_else_is_refused(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("compress", model, "--calib", text, *COMMON, "--survey", tmp_path / "survey")
    lrc(*common, "-o", tmp_path / "first", "--target-bpw", 2.7).check()
    before = digests(tmp_path / "survey" / "levels")
    again = lrc(*common, "-o", tmp_path / "second", "--target-bpw", 2.7, "--nsamples", 5)
    assert again.code == 1
    assert "survey of another model, calibration text, options" in again.err
    assert digests(tmp_path / "survey" / "levels") == before
    foreign = lrc(*common[:-1], tmp_path, "-o", tmp_path / "second", "--target-bpw", 2.7)
    assert foreign.code == 1
    assert "is not empty and holds no survey" in foreign.err
    with monkeypatch.context() as patch:
        patch.setattr(survey_store, "FORMAT_VERSION", 0)
        older = lrc(*common, "-o", tmp_path / "second", "--target-bpw", 2.7)
        assert older.code == 1
        assert "calibration text, options or version" in older.err
    # What does not depend on the text is checked before the model writes any.
    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("lrc.pipeline.material"), "calibration_windows", None)
        bare = ("compress", model, *COMMON, *common[-2:], "-o", tmp_path / "second")
        early = lrc(*bare, "--target-bpw", 2.7, "--rotation", "none")
        assert early.code == 1
        assert "survey of another model, calibration text, options" in early.err
    aimless = lrc(*common, "-o", tmp_path / "second")
    assert aimless.code == 1
    assert "give a target" in aimless.err
    assert not (tmp_path / "second").exists()


@pytest.fixture(scope="module")
def windows() -> np.ndarray[Any, np.dtype[np.int64]]:
    ids = np.frombuffer(tiny.TEXT.encode(), np.uint8).astype(np.int64)
    return ids[: 6 * 64].reshape(6, 64)


def test_the_library_chooses_what_the_command_does(
    model: Path, windows: np.ndarray[Any, np.dtype[np.int64]], tmp_path: Path
) -> None:
    spec = CompressSpec()
    chosen = allocate(model, spec, target_bpw=3.1, windows=windows, threads=1)
    assert len(chosen.matrices) == 14
    assert dataclasses.replace(chosen, matrices={}) == spec.with_table_bits(3.1)
    # Straight into a compression, which writes exactly what was counted.
    report = compress(model, tmp_path / "out", chosen, windows=windows, threads=1)
    counted = 8 * linear_bytes(tensors_of(model), chosen) / weights_of(tensors_of(model))
    assert report.bits_per_weight_linear == pytest.approx(counted)
    assert counted <= 3.1
    assert report.allocation is None


def test_a_matrix_that_the_spec_names_stays(
    model: Path, windows: np.ndarray[Any, np.dtype[np.int64]]
) -> None:
    name = "model.layers.0.mlp.down_proj"
    own = MatrixSpec(QuantSpec("lloyd-max", 6), LowRankSpec(0), "by hand")
    spec = CompressSpec(matrices={name: own})
    chosen = allocate(model, spec, target_bpw=3.5, windows=windows, threads=1)
    assert chosen.matrices[name] == own
    assert len(chosen.matrices) == 14
    assert linear_bytes(tensors_of(model), chosen) * 8 <= 3.5 * weights_of(tensors_of(model))


def test_names_that_the_model_lacks_are_refused(
    model: Path, windows: np.ndarray[Any, np.dtype[np.int64]], tmp_path: Path
) -> None:
    spec = CompressSpec(matrices={"model.layers.9.mlp.up_proj": MatrixSpec()})
    with pytest.raises(SpecError, match=r"no matrix model\.layers\.9\.mlp\.up_proj"):
        compress(model, tmp_path / "out", spec, windows=windows)
    assert not list(tmp_path.iterdir())
