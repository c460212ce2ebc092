"""The laws of models, on every case of every family; and laws that are broken are noticed."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from model_families import CASES, Case

from lrc.models import MODELS
from lrc.models.base import Site
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_tensors import SITES
from lrc.models.tensors import Matrix, Tensors
from lrc.testing import models as laws

cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
SEED = 11


def ids_of(case: Case, *shape: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, case.vocab, shape)


def test_every_family_is_in_the_table() -> None:
    assert {case.config["model_type"] for case in CASES.values()} | {"whisper"} == set(MODELS)


@cases
def test_every_stored_tensor_is_claimed_once(case: Case) -> None:
    laws.check_claims(case.model(SEED))


@cases
def test_site_by_site_is_the_whole_block(case: Case) -> None:
    for stack in case.model(SEED).stacks:
        laws.check_sites(stack, ids_of(case, 2, 12))


@cases
@settings(max_examples=4)
@given(cuts=st.lists(st.integers(1, 19), unique=True, max_size=5).map(sorted))
def test_cached_is_uncached(case: Case, cuts: list[int]) -> None:
    laws.check_cached(case.model(SEED), ids_of(case, 2, 20), cuts)


@cases
@pytest.mark.parametrize("position", [1, 13])
def test_no_token_sees_a_later_one(case: Case, position: int) -> None:
    laws.check_causal(case.model(SEED), ids_of(case, 3, 16), position)


@cases
def test_block_by_block_is_the_forward_pass(case: Case) -> None:
    ids = ids_of(case, 5, 20)
    laws.check_sweep(case.model(SEED), [ids[:2], ids[2:4], ids[4:, :13]])


@cases
def test_tables_can_be_replaced(case: Case) -> None:
    for stack in case.model(SEED).stacks:
        laws.check_tables(stack, ids_of(case, 1, 6))


def test_a_tensor_without_a_place_breaks_the_law() -> None:
    model = CASES["llama-plain"].model(SEED)
    model.source.weights["odd"] = np.zeros(3, np.float32)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="no place for"):
        laws.check_claims(model)


def test_a_matrix_that_no_site_feeds_breaks_the_law() -> None:
    model = CASES["llama-plain"].model(SEED)
    read = dict(model.tensors.read)
    name = next(n for n, t in read.items() if isinstance(t.role, Matrix) and t.role.block == 1)
    moved = dataclasses.replace(read[name].role, site="elsewhere")
    read[name] = dataclasses.replace(read[name], role=moved)
    model.tensors = Tensors(read, model.tensors.ignored)  # type: ignore[misc]
    with pytest.raises(AssertionError, match="sites and tensors differ"):
        laws.check_claims(model)


def test_a_site_that_writes_and_does_not_say_so_breaks_the_law(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = tuple(Site(site.name, site.linears) for site in SITES)
    monkeypatch.setattr(DecoderBlock, "sites", silent)
    (stack,) = CASES["llama-plain"].model(SEED).stacks
    with pytest.raises(AssertionError, match="does not say that it writes"):
        laws.check_sites(stack, ids_of(CASES["llama-plain"], 1, 5))
