"""Packed models of every family run on the compiled loops, which compute what the blocks do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_checks import assert_close, on_15_bits
from model_families import CASES, FAMILIES, Case
from packed_cases import random_matrix

from lrc.models.base import Model
from lrc.nn.engine import prompt_program
from lrc.nn.engine.team import Team
from lrc.nn.linear import Linear
from lrc.nn.packed import PackedLinear
from lrc_kernels.simd import paths as simd_paths

TOKENS = 20
#: Of the tokens: for none of them the choice between two experts is a close one.
SEED = 5
#: Families without a case whose matrices are all of shapes that trellises fit.
MISFITS = {"mamba", "falcon_mamba", "mamba2"}
#: Keys of the inner width of a feed-forward part, as families call it.
WIDTHS = (
    "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "moe_intermediate_size",
    "shared_expert_intermediate_size",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _prompt_engine_on_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])


def fits(linear: Linear) -> bool:
    """Whether trellises, which prompts need, have such shapes."""
    return linear.shape[0] % 16 == 0


def packed(linear: Linear, seed: int) -> PackedLinear:
    """Random codes, as large as the weights were."""
    codebook = ("trellis12", 2) if fits(linear) else ("e8p", 2)
    matrix = random_matrix(linear.shape, codebook, seed=seed, rank=0, row_scales=False)
    basis = linear(np.eye(linear.shape[1], dtype=np.float32))
    bias = getattr(linear, "bias", None)
    weights = basis if bias is None else basis - bias
    size = float(np.std(weights) / matrix.terms[0].scales[0, 0])
    return PackedLinear(replace(matrix, gain=size), bias)


def model_of(case: Case) -> tuple[Model, bool]:
    """A case's model on packed matrices, and whether all of them are trellises."""
    own = case.config.get("text_config", case.config)
    wide = case.changed(**{key: 64 for key in WIDTHS if own.get(key)})
    model = Case(wide, case.golden).model(5)
    linears = [f for block in model.blocks for f in block.linears.values()]
    model._blocks = tuple(
        block.with_linears({key: packed(f, i) for i, (key, f) in enumerate(block.linears.items())})
        for block in model.blocks
    )
    return model, all(map(fits, linears))


@pytest.mark.parametrize("name", CASES)
def test_tokens_and_prompts_equal_the_blocks(name: str) -> None:
    model, has_trellises = model_of(CASES[name])
    ids = np.random.default_rng(SEED).integers(0, CASES[name].vocab, TOKENS)
    hidden = model.hidden(ids[None])
    engines, rows = model.engines(), model.embed(ids)
    decode, prompt = engines.decode(Team(1)), engines.prompt(Team(1))
    assert decode is not None, engines.runs_on
    on_15_bits(decode)
    cache = model.new_cache(1, TOKENS)
    found = np.stack([decode.step(row, cache).copy() for row in rows])
    assert_close(found, model.head(hidden)[0])
    assert (prompt is not None) == has_trellises
    if prompt is not None:
        last = prompt.advance(rows, model.new_cache(1, TOKENS))
        assert_close(last[None], hidden[:, -1])


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - MISFITS))
def test_a_case_of_each_family_reads_prompts_in_compiled_loops(family: str) -> None:
    found = [model_of(case)[0].engines().runs_on for case in FAMILIES[family].values()]
    assert "compiled engine" in found
    assert set(found) <= {"compiled engine", "compiled engine, prompts in NumPy blocks"}
