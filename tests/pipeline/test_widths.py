"""Bits by matrix of recipes whose rank is given: the budget is kept, and spent where it pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipe_runs import divergence

Lrc = Callable[..., Any]
QUICK = (
    *("--nsamples", 2, "--seqlen", 32, "--quiet", "--threads", 1, "--rank", 2),
    *("--iterations", 1),
)


@pytest.mark.parametrize("recipe", ["lq-lora", "cloq"])
def test_the_budget_is_kept(lrc: Lrc, model: Path, text: Path, tmp_path: Path, recipe: str) -> None:
    outs = [tmp_path / "one", tmp_path / "two"]
    named = ("--calib", text, "--target-bpw", 6.0, *QUICK, "--recipe", recipe)
    if recipe == "cloq":  # the threads of gradients have tests of their own
        outs.pop()
    for threads, out in enumerate(outs, 1):
        lrc("compress", model, "-o", out, *named, "--threads", threads).check()
    record = lrc("inspect", outs[0], "--json").check().json
    assert 5.5 < record["bits_per_weight_linear"] <= 6.0
    matrices = {name: of for name, of in record["matrices"].items() if "embed" not in name}
    bits = {name: of["parts"][0]["bits"] for name, of in matrices.items()}
    assert len(set(bits.values())) > 1
    assert all(of["reason"].startswith(f"{bits[name]} bits") for name, of in matrices.items())
    assert not list(outs[0].glob("unfinished*"))
    for path in outs[0].glob("*.safetensors"):
        assert path.read_bytes() == (outs[-1] / path.name).read_bytes()


def test_bits_by_matrix_lose_less_than_equal_ones_of_the_same_size(
    lrc: Lrc, tmp_path: Path
) -> None:
    options = ("--recipe", "lq-lora", "--rank", "4", "--iterations", "1", "--metric-tokens", "512")
    equal = divergence(lrc, tmp_path / "equal", *options, "--bits", "3")
    size = lrc("inspect", tmp_path / "equal", "--json").check().json["bits_per_weight_linear"]
    chosen = divergence(lrc, tmp_path / "chosen", *options, "--target-bpw", str(size))
    found = lrc("inspect", tmp_path / "chosen", "--json").check().json["bits_per_weight_linear"]
    assert found <= size
    assert chosen < 0.95 * equal


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--target-size", "1MB"), "by --target-bpw alone"),
        (("--target-bpw", 3, "--generations", 2), "by --target-bpw alone"),
        (("--target-bpw", 3, "--survey", "folder"), "no survey to be kept"),
        (("--target-bpw", 1.5), "a target of 1.5 bits a weight is too small; the least possible"),
        (("--target-bpw", 3, "--codebook", "q4_k"), "--codebook and a target contradict"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    named = ("--calib", text, "--recipe", "loftq", *QUICK, *options)
    found = lrc("compress", model, "-o", tmp_path / "out", *named)
    assert found.code != 0
    assert told in found.err
    assert "\n" not in found.err.strip()
    assert not (tmp_path / "out").exists()
