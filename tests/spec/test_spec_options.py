"""Defaults, the configuration file and options, in this order of precedence."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from lrc.cli.commands.given_spec import allocation_from_options, spec_from_options
from lrc.cli.commands.spec_options import add_spec_options
from lrc.cli.commands.values import byte_count, effort
from lrc.errors import SpecError
from lrc.spec import AllocationSpec, CompressSpec, MetricSpec, QuantSpec
from lrc.spec.presets import EFFORTS, PRESETS, preset


def parse(*options: str) -> CompressSpec:
    parser = argparse.ArgumentParser()
    add_spec_options(parser)
    return spec_from_options(parser.parse_args(list(options)))


def config(path: Path, values: object) -> str:
    (path / "spec.json").write_text(json.dumps(values))
    return str(path / "spec.json")


def test_nothing_given_means_the_defaults() -> None:
    assert parse() == CompressSpec()


def test_every_option_reaches_its_field() -> None:
    spec = parse(
        *("--bits", "3", "--rank", "7", "--factor-bits", "6", "--recipe", "ldlq"),
        *("--rotation", "none", "--damping", "0.02", "--iterations", "9", "--seed", "77"),
        *("--calib", "a", "b", "--nsamples", "5", "--seqlen", "33", "--streams", "original"),
        *("--mix", "0.25", "--repair", "0.75", "--shrinkage", "0.2"),
        *("--embed-bits", "6", "--head-bits", "16", "--device", "cuda"),
    )
    solve, calibration = spec.decompose, spec.calibration
    assert solve.quant == QuantSpec("shuffle12", 3)
    assert (solve.low_rank.rank, solve.low_rank.factor_bits) == (7, 6)
    assert (solve.recipe, solve.rotation) == ("ldlq", "none")
    assert (solve.damping, solve.iterations, solve.seed) == (0.02, 9, 77)
    assert solve.device == "cuda"
    assert calibration.files == ("a", "b")
    assert (calibration.nsamples, calibration.seqlen) == (5, 33)
    assert (calibration.streams, calibration.mix) == ("original", 0.25)
    assert calibration.repair == 0.75
    assert calibration.shrinkage == 0.2
    assert (spec.embed_bits, spec.head_bits) == (6, 16)


def test_a_metric_and_its_tokens_reach_their_fields() -> None:
    assert parse("--metric", "kl").metric == MetricSpec("kl")
    assert parse("--metric", "kl", "--metric-tokens", "99").metric == MetricSpec("kl", 99)
    with pytest.raises(SpecError, match="--metric-tokens needs --metric kl"):
        parse("--metric-tokens", "99")


def test_zero_is_a_value_and_not_an_absence() -> None:
    spec = parse("--rank", "0", "--mix", "0", "--damping", "0", "--seed", "0")
    assert (spec.decompose.low_rank.rank, spec.calibration.mix) == (0, 0)
    assert (spec.decompose.damping, spec.decompose.seed) == (0, 0)


def test_options_override_the_file_which_overrides_the_defaults(tmp_path: Path) -> None:
    path = config(
        tmp_path, {"decompose": {"damping": 0.05, "iterations": 7}, "calibration": {"mix": 0.9}}
    )
    spec = parse("--config", path, "--damping", "0.03")
    assert spec.decompose.damping == 0.03
    assert spec.decompose.iterations == 7
    assert spec.calibration.mix == 0.9
    assert spec.embed_bits == CompressSpec().embed_bits


def test_a_whole_spec_round_trips_through_the_file(tmp_path: Path) -> None:
    spec = parse("--bits", "4", "--calib", "x.txt", "--rank", "3")
    assert parse("--config", config(tmp_path, spec.to_dict())) == spec


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--bits", "4"), QuantSpec("shuffle12", 4)),
        (("--bits", "3", "--preset", "fast"), QuantSpec("shuffle12", 3)),
        (("--bits", "4", "--preset", "best"), QuantSpec("trellis14", 4)),
        (("--bits", "6"), QuantSpec("lloyd-max", 6)),
        (("--codebook", "e8p-rvq3"), QuantSpec("e8p-rvq3", 3)),
        (("--codebook", "uniform", "--bits", "4"), QuantSpec("uniform", 4)),
        (
            ("--codebook", "lloyd-max", "--bits", "3", "--group-size", "64"),
            QuantSpec("lloyd-max", 3, 64),
        ),
    ],
)
def test_width_and_codebook_go_together(options: tuple[str, ...], expected: QuantSpec) -> None:
    assert parse(*options).decompose.quant == expected


def test_a_width_keeps_a_configured_scalar_codebook(tmp_path: Path) -> None:
    quant = {"codebook": "uniform", "bits": 4, "group_size": 32}
    path = config(tmp_path, {"decompose": {"quant": quant}})
    assert parse("--config", path, "--bits", "3").decompose.quant == QuantSpec("uniform", 3, 32)
    assert parse("--config", path, "--codebook", "e8p").decompose.quant == QuantSpec("e8p")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[1]", "object"),
        ('{"speed": 1}', "speed"),
        ('{"decompose": {"damping": "much"}}', "damping='much' must be a number"),
        ('{"decompose": {"iterations": 0}}', "iterations"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "spec.json").write_text(content)
    with pytest.raises(SpecError, match=said):
        parse("--config", str(tmp_path / "spec.json"))


def test_a_rank_that_is_no_number_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse("--rank", "many")
    assert exit_info.value.code == 2
    assert "many" in capsys.readouterr().err


def budget(*options: str) -> AllocationSpec | None:
    parser = argparse.ArgumentParser()
    add_spec_options(parser)
    return allocation_from_options(parser.parse_args(list(options)))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("60MB", 60_000_000),
        ("1.5 GB", 1_500_000_000),
        ("900MiB", 900 * 2**20),
        ("1kib", 1024),
        ("2KB", 2000),
        ("0.1GiB", 107374182),
        ("12345", 12345),
    ],
)
def test_sizes_have_units(text: str, count: int) -> None:
    assert byte_count(text) == count
    found = budget("--target-size", text)
    assert found is not None
    assert (found.file_bytes, found.bits_per_weight) == (count, 0)


@pytest.mark.parametrize("text", ["many", "60TBx", "MB", "1e", "5 0MB", "nan", "1/0"])
def test_a_size_that_is_none_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        budget("--target-size", text)
    assert exit_info.value.code == 2
    assert "60MB" in capsys.readouterr().err


def test_both_targets_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        budget("--target-size", "1MB", "--target-bpw", "3")
    assert "not allowed with" in capsys.readouterr().err


def test_presets_are_overridden_by_file_and_options(tmp_path: Path) -> None:
    for name in PRESETS:
        assert parse("--preset", name) == preset(name)
    path = config(tmp_path, {"calibration": {"nsamples": 7}, "decompose": {"damping": 0.02}})
    spec = parse("--preset", "balanced", "--config", path, "--damping", "0.03", "--bits", "3")
    assert spec.decompose.quant == QuantSpec("shuffle12", 3)
    assert spec.calibration.nsamples == 7
    assert spec.decompose.damping == 0.03


def test_a_target_takes_the_balanced_preset_unless_told() -> None:
    assert parse("--target-bpw", "2.5") == preset("balanced")
    assert parse("--target-bpw", "2.5", "--preset", "fast") == preset("fast")
    assert budget("--preset", "fast") is None
    for name, values in PRESETS.items():
        found = budget("--target-bpw", "2.5", "--preset", name)
        assert found is not None
        assert (found.bits_per_weight, found.passes) == (2.5, values.passes)
        assert found.generations == 0
    found = budget("--target-bpw", "2.5", "--preset", "best", "--generations", "2")
    assert found is not None
    assert found.generations == 2


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(SpecError, match="quick"):
        preset("quick")


def test_an_effort_is_a_word_or_minutes() -> None:
    assert parse("--effort", "quick") == EFFORTS["quick"].spec()
    assert parse("--effort", "quick", "--nsamples", "5").calibration.nsamples == 5
    assert parse("--effort", "least", "--bits", "3").decompose.quant == QuantSpec("shuffle12", 3)
    made = budget("--effort", "quick", "--target-bpw", "2.5")
    assert made is not None
    assert made.passes == EFFORTS["quick"].passes
    assert effort("2.5") == 2.5
    for bad in ("0", "-1", "nan", "inf", "hasty"):
        with pytest.raises(argparse.ArgumentTypeError, match="neither a number of minutes"):
            effort(bad)


def test_the_best_preset_asks_the_models_end_and_a_method_of_the_literature_does_not() -> None:
    assert parse("--preset", "best").metric == MetricSpec("kl")
    assert parse("--preset", "best", "--metric", "inputs").metric == MetricSpec()
    assert parse("--preset", "best", "--recipe", "lqer", "--rank", "4").metric == MetricSpec()
    with pytest.raises(SpecError, match=r"metric kl is worked with on the CPU.*metric at inputs"):
        parse("--preset", "best", "--device", "cuda").check()
    with pytest.raises(SpecError, match=r"metric kl: measured on text.*leave that out"):
        parse("--preset", "best", "--imatrix", "a.gguf").check()
