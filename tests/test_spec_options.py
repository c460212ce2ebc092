"""Defaults, the configuration file and options, in this order of precedence."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from lrc.commands.spec_options import add_spec_options, spec_from_options
from lrc.errors import SpecError
from lrc.spec import CompressSpec, QuantSpec


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
        *("--mix", "0.25", "--embed-bits", "6", "--head-bits", "16"),
    )
    solve, calibration = spec.decompose, spec.calibration
    assert solve.quant == QuantSpec("e8p-rvq3", 3)
    assert (solve.low_rank.rank, solve.low_rank.factor_bits) == (7, 6)
    assert (solve.recipe, solve.rotation) == ("ldlq", "none")
    assert (solve.damping, solve.iterations, solve.seed) == (0.02, 9, 77)
    assert calibration.files == ("a", "b")
    assert (calibration.nsamples, calibration.seqlen) == (5, 33)
    assert (calibration.streams, calibration.mix) == ("original", 0.25)
    assert (spec.embed_bits, spec.head_bits) == (6, 16)


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
        (("--bits", "4"), QuantSpec("e8p-rvq4", 4)),
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
    assert parse("--config", path, "--codebook", "e8p").decompose.quant == QuantSpec()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "object"),
        ('{"speed": 1}', "speed"),
        ('{"decompose": {"damping": "much"}}', "wrong type"),
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
