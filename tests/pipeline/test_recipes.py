"""Methods of the literature through the command, on a small model that was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipe_runs import divergence, random_dense

Lrc = Callable[..., Any]


def test_low_rank_alone_is_better_the_more_it_knows_of_the_inputs(lrc: Lrc, tmp_path: Path) -> None:
    found = {
        name: divergence(lrc, tmp_path / name, "--recipe", name, "--keep", "0.7")
        for name in ("svd", "asvd", "svd-llm")
    }
    assert found["svd-llm"] < 0.9 * found["asvd"] < 0.9 * found["svd"]
    record = lrc("inspect", tmp_path / "svd-llm", "--json").check().json
    linears = {k: v for k, v in record["matrices"].items() if "embed" not in k}
    assert all([part["kind"] for part in m["parts"]] == ["low_rank"] for m in linears.values())
    stored = sum(part["rank"] * sum(m["shape"]) for m in linears.values() for part in m["parts"])
    weights = sum(m["shape"][0] * m["shape"][1] for m in linears.values())
    assert 0.66 < stored / weights <= 0.7


def test_correcting_the_error_of_codes_lowers_the_divergence(lrc: Lrc, tmp_path: Path) -> None:
    coarse = ("--codebook", "uniform", "--bits", "3", "--rotation", "none")
    plain = divergence(lrc, tmp_path / "rtn", "--recipe", "round-to-nearest", *coarse)
    for name in ("lorc", "qera"):
        found = divergence(lrc, tmp_path / name, "--recipe", name, "--rank", "16", *coarse)
        assert found < plain
        plain = found


def test_distillation_lowers_the_divergence(lrc: Lrc, tmp_path: Path) -> None:
    size = ("--recipe", "lillama", "--keep", "0.6")
    start = divergence(lrc, tmp_path / "start", *size, "--distil", "0")
    assert divergence(lrc, tmp_path / "out", *size, "--distil", "2") < 0.95 * start
    record = lrc("inspect", tmp_path / "out", "--json").check().json
    notes = [m["notes"] for name, m in record["matrices"].items() if "embed" not in name]
    assert all("distilled in 2 epochs" in of[-1] for of in notes)


@pytest.mark.parametrize("family", ["mixtral", "mamba"])
def test_blocks_of_every_kind_are_distilled(
    lrc: Lrc, tmp_path: Path, text: Path, family: str
) -> None:
    dense = random_dense(family, tmp_path)
    options = ("--calib", text, "--recipe", "lillama", "--keep", "0.5", "--distil", 1)
    quick = ("--nsamples", 4, "--seqlen", 64, "--quiet")
    outs = [tmp_path / "one", tmp_path / "two"]
    for threads, out in enumerate(outs, 1):
        lrc("compress", dense, "-o", out, *options, *quick, "--threads", threads).check()
    record = lrc("inspect", outs[0], "--json").check().json
    notes = [note for matrix in record["matrices"].values() for note in matrix["notes"]]
    assert any("distilled in 1 epochs" in note for note in notes)
    for path in outs[0].glob("*.safetensors"):
        assert path.read_bytes() == (outs[1] / path.name).read_bytes()


@pytest.mark.parametrize("recipe", ["asvd", "l2qer"])
def test_experts_are_weighed_by_the_tokens_routed_to_them(
    lrc: Lrc, tmp_path: Path, text: Path, recipe: str
) -> None:
    dense = random_dense("mixtral", tmp_path)
    size = ("--keep", "0.5") if recipe == "asvd" else ("--rank", "2")
    options = ("--calib", text, "--recipe", recipe, *size, "--nsamples", 4, "--seqlen", 64)
    lrc("compress", dense, "-o", tmp_path / "out", *options, "--quiet").check()
    record = lrc("inspect", tmp_path / "out", "--json").check().json
    assert record["spec"]["decompose"]["statistic"].startswith("magnitude")


def test_a_recipe_without_a_size_says_what_to_give(lrc: Lrc, model: Path, tmp_path: Path) -> None:
    found = lrc("compress", model, "-o", tmp_path / "out", "--recipe", "svd", "--quiet")
    assert found.code != 0
    assert "give --rank N or --keep PART" in found.err
    assert not (tmp_path / "out").exists()
