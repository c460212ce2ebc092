"""Whose inputs a recipe fits its matrices to: the original model's, or those of what is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.models.base import Block, Model, Stack
from lrc.models.opened import open_model
from lrc.nn.linear import Linear
from lrc.parts.codes import Codes
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.compress import compress
from lrc.recipes import with_recipe
from lrc.spec import CompressSpec
from lrc.testing.tolerance import assert_within

WINDOWS = np.random.default_rng(13).integers(0, 256, (6, 32))
NAME, SITE = "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj.weight"
#: Recipe to what its moments are of.
SEEN = {
    **dict.fromkeys(("svd-llm", "svd-llm-2", "drone", "swift-svd", "dobi-svd"), "original"),
    **dict.fromkeys(("qera", "cloq"), "original"),
    **dict.fromkeys(("rom", "eora"), "prefix"),
}


class _Moments:
    """A visitor that keeps the second moment that one matrix is given."""

    def __init__(self) -> None:
        self.found: NDArray[np.float64] | None = None

    def begin(self, block: int) -> bool:
        return True

    def replay(self, block: int, dense: Block) -> Mapping[str, Linear]:
        return {}

    def visit(self, at: SiteAtWork) -> Mapping[str, Linear]:
        if SITE in at.tensors.values():
            self.found = np.asarray(at.moment().matrix(), np.float64)
        return {}

    def end(self, block: int) -> None:
        return None


def moment_in(model: Model) -> NDArray[np.float64]:
    """E[z z^T] of the matrix's inputs z in a model, compressed or not."""

    def start(stack: Stack, chunks: list[NDArray[np.integer]], given: Given) -> Streams:
        return Streams(start_stream(stack, chunks, 1, given.student))

    visitor = _Moments()
    walk_stacks(model, [[WINDOWS]], start, visitor, 1)
    assert visitor.found is not None
    return visitor.found


def small(name: str) -> CompressSpec:
    """The recipe at rank 4 of every matrix, its factors in 16 bits."""
    spec = with_recipe(name, CompressSpec())
    low_rank = dataclasses.replace(spec.decompose.low_rank, rank=4, keep=0.0, factor_bits=16)
    solve = dataclasses.replace(spec.decompose, low_rank=low_rank)
    return dataclasses.replace(spec, decompose=solve, ranks="equal")


@pytest.mark.parametrize("name", SEEN)
def test_a_matrix_is_fitted_to_what_its_paper_says(name: str, tmp_path: Path) -> None:
    dense, out = tiny.write_model(tmp_path / "model"), tmp_path / "out"
    compress(dense, out, small(name), windows=WINDOWS, threads=1)
    moments = {"original": moment_in(open_model(dense)[0]), "prefix": moment_in(open_model(out)[0])}
    W = open_model(dense)[1].dense(SITE).astype(np.float64)
    matrix = PackedCheckpoint.open(out).linear(SITE)
    codes = tuple(part for part in matrix.parts if isinstance(part, Codes))
    E = W - dataclasses.replace(matrix, parts=codes).to_dense() if codes else W
    left = W - matrix.to_dense()

    def off(seen: str) -> float:
        """The loss under a moment over the least, less one."""
        H = moments[seen]
        root = np.linalg.cholesky(H + 1e-9 * np.trace(H) / len(H) * np.eye(len(H)))
        best = np.square(np.linalg.svd(E @ root, compute_uv=False)[4:]).sum()
        return float(np.square(left @ root).sum() / best - 1)

    other = {"original": "prefix", "prefix": "original"}[SEEN[name]]
    assert_within(off(SEEN[name]), 1e-3, f"{name} off the best for its inputs")
    assert off(other) > 5e-3
