"""Recipes that weigh a matrix by the gradients of its own weights, through the command."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_runs import divergence, random_dense

from lrc.base.progress import SILENT
from lrc.calibrate.streams import window_chunks
from lrc.models.opened import open_model
from lrc.pipeline.compress import compress
from lrc.pipeline.metric import gradient_store
from lrc.recipes import with_recipe
from lrc.refine.layer_gradients import LayerPlace
from lrc.solvers.api import derive_seed
from lrc.spec import CompressSpec, MetricSpec
from lrc.testing.tolerance import assert_within

Lrc = Callable[..., Any]
WINDOWS = np.random.default_rng(11).integers(0, 256, (6, 32))
#: Matrices of a block of Llama, by site and layer.
PLACES = {"self_attn.k_proj": LayerPlace(0, 1), "mlp.down_proj": LayerPlace(3, 0)}


@pytest.mark.parametrize("recipe", ["fwsvd", "two-sided"])
def test_each_matrix_is_weighed_by_its_own_gradients(
    model: Path, tmp_path: Path, recipe: str
) -> None:
    """L R is the published optimum for the Fisher information that this window gives."""
    spec = with_recipe("fwsvd", CompressSpec(metric=MetricSpec(tokens=WINDOWS.size)))
    solve = spec.decompose
    solve = dataclasses.replace(solve, low_rank=dataclasses.replace(solve.low_rank, rank=4))
    if recipe == "two-sided":
        solve = dataclasses.replace(solve, statistic="fisher-two-sided")
    compress(
        model, tmp_path / "out", dataclasses.replace(spec, decompose=solve), windows=WINDOWS,
        threads=1,
    )  # fmt: skip
    original, source = open_model(model)
    store = gradient_store(
        tmp_path, original, (window_chunks(WINDOWS),), spec.metric.of_weights_alone, weights=True,
        seed=derive_seed(solve.seed, "gradients"), threads=1, progress=SILENT,
    )  # fmt: skip
    assert len(store.pieces) == 6
    found = open_model(tmp_path / "out")[1]
    for key, place in PLACES.items():
        name = f"model.layers.1.{key}.weight"
        W, made = source.dense(name).astype(np.float64), found.dense(name)
        importances = store.importances(1, place)
        assert importances is not None
        columns, rows = (np.sqrt(of.astype(np.float64)) for of in importances)
        if recipe == "fwsvd":
            rows = np.ones(len(W))
        s = np.linalg.svd(rows[:, None] * W * columns, compute_uv=False)
        best = np.square(s[4:]).sum()
        ours = np.square(rows[:, None] * (W - made) * columns).sum()
        assert_within(ours, best * 1.002, f"loss of {name}")
        assert_within(best, ours * 1.0001, "the published solution is the best")


def test_what_is_weighed_by_gradients_loses_less(lrc: Lrc, tmp_path: Path) -> None:
    few = ("--metric-tokens", "512")
    keep, rank = ("--keep", "0.7"), ("--rank", "8", "--bits", "3", "--iterations", "3")
    found = {
        name: divergence(lrc, tmp_path / name, "--recipe", name, *size)
        for name, size in (
            ("fwsvd", (*keep, *few)), ("svd", keep), ("gfwsvd", (*keep, *few)),
            ("svd-llm", keep), ("lq-lora", (*rank, *few)), ("loftq", rank),
        )
    }  # fmt: skip
    assert found["fwsvd"] < found["svd"]
    assert found["gfwsvd"] < found["svd-llm"]
    assert found["lq-lora"] < 0.95 * found["loftq"]
    assert not list((tmp_path / "fwsvd").glob("unfinished*"))


@pytest.mark.parametrize("recipe", ["fwsvd", "lq-lora"])
def test_experts_without_tokens_are_weighed_alike(
    lrc: Lrc, tmp_path: Path, text: Path, recipe: str
) -> None:
    dense = random_dense("mixtral", tmp_path)
    options = ("--calib", text, "--recipe", recipe, "--rank", 2, "--metric-tokens", 16)
    quick = ("--nsamples", 2, "--seqlen", 16, "--quiet", "--threads", 2)
    lrc("compress", dense, "-o", tmp_path / "out", *options, *quick).check()
    errors = lrc("inspect", tmp_path / "out", "--json").check().json["matrices"]
    assert all(0 < of["relative_error"] < 2 for k, of in errors.items() if "embed" not in k)
