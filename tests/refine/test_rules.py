"""Every operation has a rule, and every rule is the slope."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from op_cases import CASES, OpCase, normal
from packed_cases import random_matrix

import lrc.models  # noqa: F401  # declares every operation of every family
from lrc.errors import UnsupportedModelError
from lrc.nn.ops import Op, Pass
from lrc.nn.packed import PackedLinear
from lrc.refine.opened import opened
from lrc.refine.program import forward
from lrc.refine.rules import RULES, rule_of
from lrc.refine.vjp import Pulled
from lrc.testing.gradients import check_rule
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference


def kinds(of: type = Op) -> set[type]:
    below = {kind for sub in of.__subclasses__() for kind in {sub, *kinds(sub)}}
    return {kind for kind in below if kind.__module__.startswith("lrc.")}


def test_every_operation_has_a_rule_and_a_case() -> None:
    assert set(RULES) == kinds()
    assert {type(case.op) for case in CASES.values()} == kinds()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_rule_is_the_slope(case: OpCase) -> None:
    check_rule(case.op, case.values, case.at, 5, case.decided)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_wrong_rule_breaks_the_law(case: OpCase, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES[type(case.op)]

    def wrong(*given):
        pulled = rule.pull(*given)
        return Pulled(tuple(g if g is None else 1.001 * g for g in pulled.values), pulled.named)

    monkeypatch.setitem(RULES, type(case.op), replace(rule, pull=wrong))
    with pytest.raises(AssertionError, match="slope along"):
        check_rule(case.op, case.values, case.at, 5, case.decided)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_float64_is_what_runs_in_float32(case: OpCase) -> None:
    """What finite differences are taken of is what models compute."""
    wide = {name: x.astype(np.float64) for name, x in case.values.items()}
    got = rule_of(case.op).run(case.op, wide, case.at)
    for one, other in zip(case.op.run(case.values, case.at), got, strict=True):
        assert other.dtype == np.float64 or isinstance(case.op, type(CASES["packed"].op))
        assert_within(relative_difference(one, other), factor_bound(64, np.float32), case.op.name)


@pytest.mark.parametrize("options", [{}, {"rank": 0}, {"rotation": "none", "factor_bits": 16}])
@pytest.mark.parametrize("codebook", [("uniform", 4), ("e8p", 2), ("none", 0)])
def test_an_opened_layer_is_the_packed_one(codebook: tuple[str, int], options: dict) -> None:
    layer = PackedLinear(random_matrix((24, 40), codebook, **options), normal(24))
    x = normal(2, 7, 40)
    difference = relative_difference(opened(layer)(x), layer(x))
    assert_within(difference, factor_bound(40, np.float32), "opened layer")


def test_an_operation_without_a_rule_is_named() -> None:
    class Other(Op):
        name = "another thing"

    with pytest.raises(UnsupportedModelError, match="another thing"):
        forward([Other()], {}, Pass(np.arange(2)))
