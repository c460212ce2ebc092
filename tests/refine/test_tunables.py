"""Stored numbers are found in the programs of every family."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from model_families import FAMILIES, Case

from lrc.errors import SpecError
from lrc.models import load_model
from lrc.models.source import WeightSource
from lrc.refine.backward import Backward
from lrc.refine.changed import Changed
from lrc.refine.overlay import Overlay
from lrc.refine.tunables import find_tunables, used
from lrc.testing.gradients import Weighted

SEED = 11
FIRST = {family: next(iter(cases.values())) for family, cases in FAMILIES.items()}


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST)
def test_what_is_stored_moves_programs_as_it_moves_them(case: Case) -> None:
    source = load_model(case.source(SEED)).source
    tunables, _ = find_tunables(source, ("norms", "biases"))
    rng = np.random.default_rng(1)
    moved = {one.key: one.value + rng.uniform(0, 0.3, one.value.shape).astype(np.float32)
             for one in tunables}  # fmt: skip
    stored = Overlay(source, {tensor: value for (tensor, _), value in moved.items()})
    other = load_model(cast(WeightSource, stored))
    ids = rng.integers(0, case.vocab, (1, 8))
    loss = Weighted([(7, other.vocab_size)], 1)
    expected = Backward(other, Changed({})).loss([ids], loss)
    got = Backward(load_model(source), Changed(used(tunables, moved))).loss([ids], loss)
    before = Backward(load_model(source), Changed({})).loss([ids], loss)
    assert got == pytest.approx(expected, rel=1e-5)
    assert abs(got - before) > 1e-3 * before


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST)
def test_every_norm_is_found(case: Case) -> None:
    source = load_model(case.source(SEED)).source
    tunables, missed = find_tunables(source, ("norms",))
    norms = {name for name in source.names() if "norm" in name or ".ln_" in name}
    left = norms - {one.tensor for one in tunables}
    assert all(".norms." in name for name in left), left  # one a head, stored apart
    assert (missed > 0) == (len(left) > 0)


def test_what_a_model_lacks_is_refused() -> None:
    source = load_model(FIRST["llama"].source(SEED)).source
    with pytest.raises(SpecError, match="has none of gains"):
        find_tunables(source, ("gains",))
