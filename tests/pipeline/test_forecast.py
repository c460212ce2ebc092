"""The forecast: what is said to be exact is, limits out of reach are refused, plan meets fact."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_llama import tiny_model

import lrc.pipeline.compress as whole
from lrc.base.spool import MemoryUse, Spool
from lrc.cli.forecast_tables import plan_and_fact
from lrc.errors import FormatError, SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.opened import open_original
from lrc.pipeline.forecast.counts import tokens_of
from lrc.pipeline.forecast.fact import read_run
from lrc.pipeline.forecast.memory import memory_plan
from lrc.pipeline.forecast.shapes import special_shapes
from lrc.pipeline.forecast.size import sizes
from lrc.spec import (
    CalibrationSpec,
    CompressSpec,
    DecomposeSpec,
    LowRankSpec,
)

Lrc = Callable[..., Any]
MODEL = tiny_model()
GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "run"


def planned(
    spec: CompressSpec, ram: int | None = None, threads: int = 2, model: Any = MODEL
) -> Any:
    return memory_plan(model, spec, None, 2, ram)


def test_the_sizes_of_a_plan_are_those_of_the_files(
    lrc: Lrc, model: Path, text: Path, packed: Path, fast: tuple[str, ...]
) -> None:
    record = lrc("plan", model, "--calib", text, "--json", *fast).check().json
    size = record["size"]
    assert size["exact"]
    weights = sum(path.stat().st_size for path in packed.glob("*.safetensors"))
    assert size["weights"] == size["weights_most"] == weights
    plan, fact = read_run(packed) or ({}, {})
    assert plan["size"] == size
    assert fact["weights"] == weights
    manifest = (packed / "lrc.json").stat().st_size
    assert size["copied"] + weights + manifest == fact["total"]
    assert abs(size["manifest"] / manifest - 1) < 0.3
    bits = record["bits_per_weight"]
    assert bits == pytest.approx([fact["bits_per_weight"]] * 2)
    assert not fact["continued"]


QUICK = DecomposeSpec(polish_sweeps=0, iterations=1, low_rank=LowRankSpec(0))


@pytest.mark.parametrize(
    "spec",
    [
        CompressSpec(decompose=QUICK, embed_bits=16),
        CompressSpec(decompose=dataclasses.replace(QUICK, low_rank=LowRankSpec("auto"))),
        CompressSpec(decompose=QUICK, bias=True, calibration=CalibrationSpec(streams="original")),
    ],
    ids=["tables of 16 bits", "automatic ranks", "biases"],
)
def test_sizes_hold_for_what_else_may_be_stored(
    model: Path, tmp_path: Path, spec: CompressSpec
) -> None:
    opened, checkpoint = open_original(model)
    size = sizes(opened.tensors, spec, None, checkpoint.other_files())
    windows = np.random.default_rng(3).integers(0, 256, (4, 24))
    report = whole.compress(model, tmp_path / "out", spec, windows=windows, threads=1)
    assert size.weights <= report.file_bytes <= size.weights_most
    assert size.exact == (size.weights == size.weights_most)
    assert size.exact or spec.decompose.low_rank.rank == "auto"


def test_a_budget_bounds_the_plan(lrc: Lrc, model: Path, text: Path) -> None:
    asked = ("--calib", text, "--nsamples", 20, "--seqlen", 32, "--threads", 1, "--quiet")
    size = lrc("plan", model, "--target-size", "60KB", "--json", *asked).check().json["size"]
    assert size["weights"] < size["weights_most"] == 60000
    assert not size["exact"]


@pytest.mark.parametrize("verb", ["plan", "compress"])
@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (("--ram", "100M"), ("--ram 0.0977G is out of reach: ", "G or more, ", "--nsamples")),
        (("--target-size", "1KB"), ("target of 1000 bytes is too small", "give at least that")),
        (("--target-bpw", "1.5"), ("target of 1.5 bits a weight", "give at least that")),
    ],
)
def test_what_is_out_of_reach_is_refused_at_once(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, verb: str, limit: Any, says: Any
) -> None:
    out = tmp_path / "out"
    shown = lrc(verb, model, "-o", out, "--calib", text, "--nsamples", 20, "--seqlen", 32, *limit)
    assert shown.code == 1
    assert shown.err.count("\n") == 1, shown.err
    assert all(part in shown.err for part in says), shown.err
    assert not list(tmp_path.iterdir())


def test_where_the_model_writes_text_the_remedy_is_to_give_some() -> None:
    wide = tiny_model(vocab_size=30000)
    with pytest.raises(SpecError, match=r"the model writing text .* --calib FILE, or --shipped 1"):
        planned(CompressSpec(calibration=CalibrationSpec(nsamples=512)), ram=1, model=wide)


def test_a_full_disk_is_told_before_any_work(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    shown = lrc("compress", model, "-o", tmp_path / "out", "--calib", text, "--threads", 1)
    assert (shown.code, shown.out) == (1, "")
    assert "while it is made, and " in shown.err
    assert "1e-06 GB free; free some space, or put it elsewhere with -o" in shown.err


@pytest.mark.parametrize("value", ["4X", "0", "G", "-1G"])
def test_a_memory_that_is_none_is_wrong_usage(lrc: Lrc, model: Path, value: str) -> None:
    with pytest.raises(SystemExit):
        lrc("plan", model, f"--ram={value}")


def test_a_ceiling_decides_how_memory_is_used() -> None:
    spec = CompressSpec(calibration=CalibrationSpec(("t",), nsamples=4096, seqlen=256))
    free = planned(spec)
    assert not free.way.spooled
    assert free.spooled_bytes == 0
    tight = planned(spec, ram=free.peak.bytes - 1)
    assert tight.way.spooled
    assert tight.peak.bytes < free.peak.bytes
    # Two streams, the residual one and the widest input beside it, in four bytes a number.
    assert tight.spooled_bytes == 2 * 4096 * 256 * (32 + 56) * 4
    assert planned(spec, ram=tight.least.bytes).peak == tight.least
    with pytest.raises(SpecError, match=r"--ram .* is out of reach"):
        planned(spec, ram=tight.least.bytes - 1)


def test_spooled_and_one_by_one_gives_the_same_bytes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = np.random.default_rng(3).integers(0, 256, (60, 48))  # two chunks
    spec = CompressSpec(decompose=QUICK)
    spools: list[Spool] = []

    def spooling(_: object, folder: Path) -> MemoryUse:
        spools.append(Spool(folder))
        return MemoryUse(spools[-1], side_by_side=False)

    whole.compress(model, tmp_path / "plain", spec, windows=windows, threads=2)
    monkeypatch.setattr(whole, "_memory_use", spooling)
    whole.compress(model, tmp_path / "spooled", spec, windows=windows, threads=2)
    assert spools[0].written > 2 * 60 * 48 * 48 * 4
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "spooled").iterdir())
    for name in names:
        one, other = (tmp_path / folder / name for folder in ("plain", "spooled"))
        assert one.read_bytes() == other.read_bytes(), name


def test_shapes_with_a_treatment_of_their_own_are_listed() -> None:
    spec = CompressSpec(decompose=dataclasses.replace(QUICK, low_rank=LowRankSpec(40)))
    tied = tiny_model(tie_word_embeddings=True, intermediate_size=70)
    found = special_shapes(tied, spec, tokens=40)
    what = {(one.shape, one.what) for one in found}
    assert ((70, 32), "output side 70 is rotated in blocks of 2") in what
    assert ((32, 70), "rank 40 exceeds the smaller side: 32") in what
    few = "fewer tokens (40) than inputs (70): the moment is shrunk to its diagonal"
    assert ((32, 70), few) in what
    assert ((48, 32), "the head is tied to it: stored once, at 4 bits") in what
    assert any("codebook shuffle12" in text for _, text in what)
    assert next(one.count for one in found if one.shape == (32, 70)) == 2
    assert not any("tied" in one.what for one in special_shapes(MODEL, spec, 40))


def test_experts_are_listed() -> None:
    mixture = tiny_model(
        model_type="mixtral", num_local_experts=4, num_experts_per_tok=2, num_hidden_layers=1
    )
    found = special_shapes(mixture, CompressSpec(decompose=QUICK), 4096)
    assert sum(one.count for one in found if one.what.startswith("of an expert")) == 12


def test_tokens_are_those_of_all_windows() -> None:
    spec = CompressSpec(calibration=CalibrationSpec(("t",), nsamples=3))
    assert tokens_of(MODEL, spec) == 3 * 256  # the context is shorter than a window


def test_a_run_on_record_is_read_and_a_damaged_one_refused(tmp_path: Path) -> None:
    plan, fact = read_run(GOLDEN) or ({}, {})
    rows = {row[0]: row[1:] for row in plan_and_fact(plan, fact)}
    assert rows["weight files"] == ("49,316 bytes", "49,316 bytes")
    assert rows["peak memory"] == ("200.0 MB", "210.0 MB (+5 %)")
    assert rows["time"] == ("10.0 s", "8.0 s (-20 %)")
    assert read_run(tmp_path) is None
    text = (GOLDEN / "lrc-run.json").read_text()
    for damaged in ("{", "{}", text.replace('"lrc-run"', '"other"'), text.replace("fact", "fakt")):
        (tmp_path / "lrc-run.json").write_text(damaged)
        with pytest.raises(FormatError, match=r"lrc-run\.json is damaged .*remove it"):
            read_run(tmp_path)


def test_the_end_of_a_compression_shows_plan_and_fact(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    quick = ("--calib", text, "--nsamples", 2, "--seqlen", 32, "--rank", 0, "--threads", 1)
    shown = lrc("compress", model, "-o", tmp_path / "o", "--ram", "1G", *quick).check()
    assert "plan: " in shown.err
    assert "within --ram by: 1 threads" in shown.err
    lines = shown.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("plan and fact"))
    assert [line.split("  ")[0] for line in lines[start + 2 : start + 6]] == [
        "weight files", "all of the output", "peak memory", "time",
    ]  # fmt: skip
    kept = json.loads((tmp_path / "o" / "lrc-run.json").read_text())
    assert kept["plan"]["memory"]["threads"] == 1
    assert Checkpoint.open(model).other_files()
    assert lrc("verify", tmp_path / "o").check()
