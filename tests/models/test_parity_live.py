"""Logits equal those that transformers computes here, where the extra ``parity`` is installed."""

from __future__ import annotations

import numpy as np
import pytest
from model_families import CASES, Case

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", [7, 8])
def test_logits_are_those_of_transformers(case: Case, seed: int) -> None:
    """On weights that no golden file was made of."""
    from make_parity_golden import compute

    _, ids, logits = compute(case, seed)
    got = case.model(seed).logits(ids)
    assert np.abs(got - logits).max() < 1e-4 * np.abs(logits).max()
