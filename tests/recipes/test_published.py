"""Every recipe is what its paper says: one row a name, against a slow and direct reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import published_recipes as published
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st
from published_recipes import F64, Layer, layer

from lrc.parts.codes import Codes
from lrc.recipes import RECIPES, with_recipe
from lrc.solvers.api import decompose
from lrc.solvers.base import Decomposition
from lrc.spec import CompressSpec
from lrc.testing.tolerance import assert_within

Solved = Callable[[Layer], F64]
#: Recipe to its published solution, and how its errors are weighed there: see `loss`.
ONCE: dict[str, tuple[Solved, str]] = {
    "svd": (published.svd, "identity"),
    "asvd": (published.asvd, "magnitude"),
    "fwsvd": (published.fwsvd, "fisher"),
    "gfwsvd": (published.gfwsvd, "both moments"),
    "svd-llm": (published.cholesky_whitened, "moment"),
    "svd-llm-2": (published.svd_llm_2, "moment"),
    "drone": (published.drone, "moment"),
    "swift-svd": (published.output_pca, "moment"),
    "rom": (published.output_pca, "moment"),
    "dobi-svd": (published.output_pca, "moment"),
    "lord": (published.output_pca, "moment"),  # of centred rows: see tests/pipeline/test_biases.py
    "basis-sharing": (
        published.cholesky_whitened,
        "moment",
    ),  # a block
    # Of matrices that have no pair: see tests/pipeline/test_pairs.py.
    **dict.fromkeys(("modegpt", "flat-llm"), (published.cholesky_whitened, "moment")),
    "welore": (published.svd, "identity"),
    "lillama": (published.cholesky_whitened, "moment"),  # its start
    "lillama-svd": (published.svd, "identity"),
    "low-rank": (published.cholesky_whitened, "moment"),
    "lorc": (published.lorc, "identity"),
    "lqer": (published.lorc, "identity"),
    "l2qer": (published.l2qer, "magnitude-squared"),
    "qera-approx": (published.by_rms, "rms"),
    "slim": (published.by_rms, "rms"),
    "qera": (published.qera, "moment"),
    "eora": (published.eora, "moment"),
    "cloq": (published.cloq, "moment"),
}
#: Of turns of Q and L R.
IN_TURN: dict[str, tuple[Solved, str]] = {
    "loftq": (published.loftq, "identity"),
    "svdquant": (published.svdquant, "magnitude"),
    "lq-lora": (published.lq_lora, "fisher-two-sided"),
}
#: L R is that of the Q it ends with, whatever has led there.
BY_DESCENT = ("caldera", "odlri", "srr")
CODES_ALONE = ("ldlq", "round-to-nearest")


def loss(E: F64, of: Layer, weighed: str) -> float:
    """What a recipe minimises, of an error E, from the rows themselves."""
    X, mean = of.X, np.abs(of.X).mean(0)
    if weighed == "both moments":
        return float(np.square(of.G @ E @ X.T).sum()) / len(X) ** 2
    if weighed == "moment":
        return float(np.square(E @ X.T).sum()) / len(X)
    if weighed == "fisher-two-sided":
        return float((of.fisher.sum(1) @ E**2) @ of.fisher.sum(0))
    columns = {
        "identity": np.ones(len(mean)),
        "magnitude": mean,
        "magnitude-squared": mean**2,
        "rms": np.square(X).mean(0),
        "fisher": of.fisher.sum(0),
    }[weighed]
    return float((E**2 @ columns).sum())


def problem(name: str, seed: int) -> Layer:
    """A layer at which a recipe is asked for rank 3, in factors that lose next to nothing."""
    spec = with_recipe(name, CompressSpec()).decompose
    low_rank = dataclasses.replace(spec.low_rank, rank=3, keep=0.0, factor_bits=16)
    return layer(seed, dataclasses.replace(spec, rotation="none", low_rank=low_rank))


def solved(name: str, of: Layer) -> Decomposition:
    more: dict[str, Any] = {"magnitudes": np.abs(of.X).mean(0), "importances": of.fisher.sum(0)}
    if of.spec.statistic == "fisher-two-sided":
        more["outputs"] = np.diag(of.fisher.sum(1))
    if RECIPES[name].metric is not None:
        more["outputs"] = of.A
    return decompose(of.W, of.H, of.spec, **more, threads=1)


def test_every_recipe_has_one_row() -> None:
    rows = [*ONCE, *IN_TURN, *BY_DESCENT, *CODES_ALONE]
    assert sorted(rows) == sorted(RECIPES)


@pytest.mark.parametrize("name", ONCE)
@given(seed=st.integers(0, 10**6))
@few(12)
def test_a_recipe_is_the_published_solution(name: str, seed: int) -> None:
    """Both have the same loss in the recipe's own metric, and no other root of it does better."""
    of = problem(name, seed)
    reference, weighed = ONCE[name]
    best, size = loss(of.W - reference(of), of, weighed), loss(of.W, of, weighed)
    ours = loss(of.W - solved(name, of).to_dense(), of, weighed)
    rounding = 4 * float(np.finfo(np.float16).eps)
    slack = rounding * best + rounding**2 * size
    assert_within(abs(ours - best), slack, f"loss of {name}, published {best:.4g}")


@pytest.mark.parametrize("name", IN_TURN)
def test_turns_end_where_the_published_ones_do(name: str) -> None:
    """On average: a tie that is rounded the other way leads elsewhere, for better or worse."""
    reference, weighed = IN_TURN[name]
    ratios = []
    for seed in range(8):
        of = problem(name, seed)
        best = loss(of.W - reference(of), of, weighed)
        ours = loss(of.W - solved(name, of).to_dense(), of, weighed)
        ratios.append(ours / best)
    assert_within(abs(np.mean(ratios) - 1), 0.01, f"mean loss of {name} over the published one's")


@pytest.mark.parametrize("name", BY_DESCENT)
@given(seed=st.integers(0, 10**6))
@few(12)
def test_what_a_descent_ends_with_is_the_best_for_its_codes(name: str, seed: int) -> None:
    of = problem(name, seed)
    found = solved(name, of)
    codes = tuple(part for part in found.matrix.parts if isinstance(part, Codes))
    assert len(codes) == 1
    Q = dataclasses.replace(found.matrix, parts=codes).to_dense().astype(np.float64)
    E = of.W - Q
    best = loss(E - published.cholesky_whitened(of, E), of, "moment")
    ours = loss(of.W - found.to_dense(), of, "moment")
    assert_within(ours, 1.02 * best, f"loss of {name} for its codes")


@pytest.mark.parametrize("name", CODES_ALONE)
def test_codes_alone_have_no_factors(name: str) -> None:
    of = problem(name, 7)
    assert [part.kind for part in solved(name, of).matrix.parts] == ["codes"]


@given(seed=st.integers(0, 10**6))
@few(12)
def test_the_optimum_does_not_depend_on_the_root(seed: int) -> None:
    """Cholesky, eigenvectors, X itself, or outputs: one product L R, to rounding."""
    of = problem("svd-llm", seed)
    roots = (published.svd_llm_2, published.drone, published.output_pca)
    found = published.cholesky_whitened(of)
    for other in roots:
        np.testing.assert_allclose(other(of) @ of.X.T, found @ of.X.T, atol=1e-7)
