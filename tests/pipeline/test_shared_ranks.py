"""Recipes that share out ranks among matrices, through the command: sizes, dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_runs import CALIBRATION, TRAINED, divergence, random_dense

from lrc.models.opened import open_model
from lrc.run.generate import Decoder

Lrc = Callable[..., Any]
QUICK = ("--nsamples", 4, "--seqlen", 64, "--quiet", "--threads", 1)


def ranks_of(lrc: Lrc, out: Path) -> dict[str, int | None]:
    """Ranks by matrix as they are stored; None of those that are dense."""
    record = lrc("inspect", out, "--json").check().json
    _, source = open_model(out)
    names = [name for name in source.names() if name.endswith("proj.weight")]
    stored = record["matrices"]
    return {name: stored[name]["parts"][0]["rank"] if name in stored else None for name in names}


@pytest.mark.parametrize("recipe", ["welore", "svd-llm-2", "rom", "least-loss"])
def test_every_rule_runs_whole_and_keeps_its_part(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, recipe: str
) -> None:
    named = ("--recipe", recipe)
    if recipe == "least-loss":
        named = ("--recipe", "svd-llm", "--ranks", recipe)
    out = tmp_path / "out"
    lrc("compress", model, "-o", out, "--calib", text, *named, "--keep", 0.8, *QUICK).check()
    ranks = ranks_of(lrc, out)
    shapes = {name: open_model(model)[1].shape(name) for name in ranks}
    assert len(ranks) == 14
    numbers = sum(m * n for m, n in shapes.values())
    kept = sum(
        m * n if ranks[name] is None else ranks[name] * (m + n)
        for name, (m, n) in shapes.items()
    )  # fmt: skip
    assert 0.7 < kept / numbers <= 0.8
    assert len(set(ranks.values())) > 2 or recipe == "rom"
    packed, original = (open_model(of)[0].logits(np.arange(20)[None]) for of in (out, model))
    assert np.isfinite(packed).all()
    assert np.abs(packed - original).max() > 0


def test_a_matrix_that_stays_dense_is_counted_run_and_exported(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    """ROM leaves the first block as it is."""
    out, hf = tmp_path / "out", tmp_path / "hf"
    options = ("--calib", text, "--recipe", "rom", "--keep", 0.8, *QUICK)
    record = lrc("compress", model, "-o", out, *options, "--json").check().json
    assert any("matrices stay dense, in 16 bits" in said for said in record["warnings"])
    ranks = ranks_of(lrc, out)
    assert {rank is None for name, rank in ranks.items() if ".0." in name} == {True}
    assert 0.75 * 16 < record["bits_per_weight_linear"] < 0.85 * 16
    source, dense = open_model(out)[1], open_model(model)[1]
    name = "model.layers.0.mlp.up_proj.weight"
    np.testing.assert_array_equal(
        source.dense(name), dense.dense(name).astype(np.float16).astype(np.float32)
    )
    lrc("export", out, "-o", hf, "--to", "hf", "--quiet").check()
    np.testing.assert_array_equal(open_model(hf)[1].dense(name), source.dense(name))
    prefix = np.arange(20)[None]
    expected = open_model(hf)[0].logits(prefix)
    found = open_model(out)[0].logits(prefix)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    judged = [
        lrc("eval", of, "--text", text, "--ctx", 32, "--windows", 2, "--quiet", "--json").check()
        for of in (out, hf)
    ]
    a, b = (of.json["perplexity"] for of in judged)
    assert a == pytest.approx(b, rel=1e-2)
    lrc("inspect", out).check()
    lrc("verify", out, "--original", model, "--quiet").check()


def test_ranks_by_loss_lose_less_than_equal_ones(lrc: Lrc, tmp_path: Path) -> None:
    found = {
        name: divergence(
            lrc, tmp_path / name, "--recipe", "svd-llm", "--ranks", name, "--keep", 0.7
        )
        for name in ("equal", "least-loss")
    }
    assert found["least-loss"] < 0.9 * found["equal"]


def test_experts_share_out_ranks(lrc: Lrc, text: Path, tmp_path: Path) -> None:
    dense = random_dense("mixtral", tmp_path)
    for recipe in ("welore", "svd-llm-2"):
        options = ("--calib", text, "--recipe", recipe, "--keep", 0.7, *QUICK)
        lrc("compress", dense, "-o", tmp_path / recipe, *options).check()
        assert np.isfinite(open_model(tmp_path / recipe)[0].logits(np.arange(9)[None])).all()


def test_rules_without_a_part_say_what_to_give(lrc: Lrc, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = lrc("compress", model, "-o", out, "--recipe", "welore", "--rank", 4, "--quiet")
    assert found.code != 0
    assert "give --keep PART, or --ranks equal with --rank N" in found.err
    found = lrc("compress", model, "-o", out, "--ranks", "threshold", "--keep", 0.5, "--quiet")
    assert found.code != 0
    assert "are those of L R alone" in found.err
    assert not out.exists()


def test_the_decode_engine_takes_dense_matrices_among_packed_ones(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    """Layers with biases, too; the same tokens' logits as blocks in NumPy give."""
    out = tmp_path / "out"
    named = ("--recipe", "welore", "--keep", 0.8, "--bias")
    lrc("compress", model, "-o", out, "--calib", text, *named, *QUICK).check()
    assert "engine" in lrc("inspect", out).check().out
    packed, ids = open_model(out)[0], np.arange(20)
    expected = packed.logits(ids[None])[0]
    decoder = Decoder(packed, len(ids))
    found = np.stack([decoder.advance(ids[i : i + 1]).copy() for i in range(len(ids))])
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_what_is_left_of_a_model_is_tuned(lrc: Lrc, tmp_path: Path) -> None:
    """Biases that compression added are tuned with all else; dense matrices stay."""
    out, dense = tmp_path / "out", TRAINED / "model"
    few = ("--nsamples", 4, "--seqlen", 128, "--quiet", "--threads", 1)
    named = ("--recipe", "lord", "--keep", 0.8, "--ranks", "last-blocks")
    lrc("compress", dense, "-o", out, "--calib", CALIBRATION, *named, *few).check()
    before = open_model(out)[1]
    stays, moves = "model.layers.0.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.bias"
    old = {name: before.dense(name).copy() for name in (stays, moves)}
    what = ("--what", "biases,factors", "--calib", CALIBRATION, "--tokens", 2048, "--quiet")
    lrc("tune", out, "--against", dense, *what).check()
    after = open_model(out)[1]
    np.testing.assert_array_equal(after.dense(stays), old[stays])
    assert (after.dense(moves) != old[moves]).any()
    told = after.report["tuned"][-1]
    assert told["kl_after"] < told["kl_before"]
