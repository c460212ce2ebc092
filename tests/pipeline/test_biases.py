"""Biases that make up for the mean of what a matrix has lost: found, stored, run and exported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_runs import divergence, random_dense

from lrc.errors import SpecError
from lrc.models.opened import open_model
from lrc.nn.ops import Pass
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.compress import compress
from lrc.recipes import with_recipe
from lrc.spec import CompressSpec
from lrc.testing.tolerance import assert_within

Lrc = Callable[..., Any]
HALF = (
    *("--recipe", "lord", "--keep", 0.5, "--nsamples", 4, "--seqlen", 64),
    *("--quiet", "--threads", 1),
)
WINDOWS = np.random.default_rng(11).integers(0, 256, (6, 32))


def lord(keep: float) -> CompressSpec:
    spec = with_recipe("lord", CompressSpec())
    solve = spec.decompose
    solve = dataclasses.replace(solve, low_rank=dataclasses.replace(solve.low_rank, keep=keep))
    return dataclasses.replace(spec, decompose=solve)


@pytest.mark.parametrize("biased", [False, True])
def test_lord_is_the_published_solution(model: Path, tmp_path: Path, biased: bool) -> None:
    """V V^T W of the leading eigenvectors V of Cov[y], with the bias (I - V V^T) E[y]."""
    dense = model
    if biased:
        dense = random_dense("qwen2", tmp_path)
    compress(dense, tmp_path / "out", lord(0.5), windows=WINDOWS, threads=1)
    original, source = open_model(dense)
    block = original.stacks[0].load_block(0)
    h = original.stacks[0].start(WINDOWS)
    values = block.enter({"h": h}, Pass(np.arange(32)))
    z = values[block.layers_of(0).source].reshape(-1, h.shape[-1]).astype(np.float64)
    found = PackedCheckpoint.open(tmp_path / "out")
    for key in ("self_attn.q_proj", "self_attn.v_proj"):
        name = f"model.layers.0.{key}"
        W = source.dense(f"{name}.weight").astype(np.float64)
        own = source.dense(f"{name}.bias") if biased else np.zeros(len(W))
        y = z @ W.T
        rank = int(0.5 * W.size / sum(W.shape))
        V = np.linalg.eigh(np.cov(y.T))[1][:, -rank:]
        published = y @ V @ V.T + (y.mean(0) - V @ (V.T @ y.mean(0)))
        ours = z @ found.dense(f"{name}.weight").T + found.dense(f"{name}.bias") - own
        losses = [np.square(of - y).sum() for of in (ours, published)]
        size = np.square(y).sum()
        slack = (4 * float(np.finfo(np.float16).eps)) ** 2 * size  # losses are flat at the best
        assert_within(abs(losses[0] - losses[1]), slack, f"loss of {name}")
        assert_within(np.abs((ours - y).mean(0)).max(), 1e-4 * np.abs(y).max(), "mean of errors")
        plain = np.square(y @ V @ V.T - y).sum()
        assert losses[0] < plain


def test_a_bias_lowers_the_divergence(lrc: Lrc, tmp_path: Path) -> None:
    found = {
        name: divergence(lrc, tmp_path / name, "--recipe", name, "--keep", "0.7")
        for name in ("lord", "svd-llm")
    }
    assert found["lord"] < found["svd-llm"]


def test_what_is_exported_is_what_runs(lrc: Lrc, model: Path, text: Path, tmp_path: Path) -> None:
    """Configurations say that there are biases; the compiled engine adds them, too."""
    out, hf = tmp_path / "out", tmp_path / "hf"
    lrc("compress", model, "-o", out, "--calib", text, *HALF).check()
    lrc("export", out, "-o", hf, "--to", "hf", "--quiet").check()
    prefix, (packed, _), (dense, _) = WINDOWS[:1], open_model(out), open_model(hf)
    assert dense.source.config["attention_bias"]
    assert dense.source.config["mlp_bias"]
    assert "model.layers.1.mlp.down_proj.bias" in dense.tensors.read
    expected = dense.logits(prefix)
    np.testing.assert_allclose(packed.logits(prefix), expected, atol=2e-3 * np.abs(expected).max())
    few = ("--text", text, "--ctx", 32, "--windows", 4, "--quiet", "--json")
    judged = [lrc("eval", of, *few).check().json for of in (out, hf)]
    assert judged[0]["perplexity"] == pytest.approx(judged[1]["perplexity"], rel=1e-2)


def test_families_without_a_place_for_biases_run_and_are_not_exported(
    lrc: Lrc, text: Path, tmp_path: Path
) -> None:
    dense, out = random_dense("gemma2", tmp_path), tmp_path / "out"
    lrc("compress", dense, "-o", out, "--calib", text, *HALF).check()
    assert "model.layers.0.mlp.up_proj.bias" in open_model(out)[0].tensors.read
    for target in ("hf", "gguf"):
        said = lrc("export", out, "-o", tmp_path / target, "--to", target, "--quiet")
        assert said.code != 0
        assert "models of type gemma2 have no place for them" in said.err
        assert not (tmp_path / target).exists()


@pytest.mark.parametrize("family", ["mixtral", "mamba"])
def test_blocks_of_all_kinds_take_biases(lrc: Lrc, tmp_path: Path, text: Path, family: str) -> None:
    dense, out = random_dense(family, tmp_path), tmp_path / "out"
    prefix = ("--streams", "mixed", "--mix", 0, "--repair", 0)
    lrc("compress", dense, "-o", out, "--calib", text, *HALF, *prefix).check()
    lrc("verify", out, "--original", dense, "--quiet").check()
    opened, source = open_model(out)
    linears = opened.stacks[0].load_block(1).linears
    assert all(np.abs(linear.bias).max() > 0 for linear in linears.values())
    assert np.isfinite(opened.logits(WINDOWS[:1])).all()
    assert source.has(next(iter(opened.tensors.matrices)) + ".bias")


def test_biases_are_of_one_stream() -> None:
    with pytest.raises(SpecError, match="take streams original, or mix 0 and repair 0"):
        CompressSpec(bias=True)
