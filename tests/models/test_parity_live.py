"""Logits equal those that transformers computes here, where the extra ``parity`` is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_families import CASES, FAMILIES, Case

from lrc.errors import LrcError

pytest.importorskip("torch")
pytest.importorskip("transformers")

#: Mixed configurations of each family that are tried.
TRIED = 12


def check(case: Case, seed: int) -> None:
    from make_parity_golden import compute

    _, ids, logits = compute(case, seed)
    got = case.model(seed).logits(ids)
    assert np.abs(got - logits).max() < 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", [7, 8])
def test_logits_are_those_of_transformers(case: Case, seed: int) -> None:
    """On weights that no golden file was made of."""
    check(case, seed)


def mixed(family: str, rng: np.random.Generator) -> dict[str, Any]:
    """The configuration of one case, in which some keys are as in another, or absent as there."""
    rows = [dict(case.config) for case in FAMILIES[family].values()]
    config = dict(rows[rng.integers(len(rows))])
    for key in sorted({key for row in rows for key in row}):
        other = rows[rng.integers(len(rows))]
        if rng.random() < 0.4:
            config.pop(key, None)
            config |= {key: other[key]} if key in other else {}
    return config


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_configurations_mean_what_they_mean_there(family: str) -> None:
    """Where both sides accept one; a refusal is one of ours, never a traceback."""
    rng = np.random.default_rng(5)
    accepted = 0
    for seed in range(TRIED):
        config = mixed(family, rng)
        case = Case(config, Path(family))
        try:
            case.source(seed)
        except LrcError:
            continue
        try:
            check(case, seed)
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError):
            continue
        except AssertionError as error:
            raise AssertionError(f"{config}") from error
        accepted += 1
    assert accepted >= TRIED // 4
