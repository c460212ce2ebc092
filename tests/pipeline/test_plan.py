"""The plan of a compression: the most work that is expected to fit into a time."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_llama import tiny_model

import lrc.pipeline.plan as planning
from lrc.cli.demo.plan import ROUNDED_GROUP, demo_plan, demo_spec, rounded_spec
from lrc.models.tensors import EMBEDDING
from lrc.pipeline.plan import Speeds, plan, products, table_weights_rounded, weights_solved
from lrc.spec import STATISTICS, AllocationSpec, CalibrationSpec, CompressSpec
from lrc.spec.presets import EFFORTS

MODEL = tiny_model()
SPECS = {name: effort.spec() for name, effort in EFFORTS.items()}
SPEEDS = Speeds(1e9, 1e4, 1e5)


def expected(spec: CompressSpec) -> float:
    found = products(MODEL, spec) / SPEEDS.multiplications + weights_solved(MODEL, spec) / 1e4
    return found + table_weights_rounded(MODEL, spec) / SPEEDS.table_weights


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One whose speeds are known; holds what they were asked for."""
    solved: list[Any] = []
    monkeypatch.setattr(planning, "_multiplying_speed", lambda _: SPEEDS.multiplications)

    def solving_speed(spec: Any, threads: int) -> float:
        solved.append(spec)
        return SPEEDS.weights

    monkeypatch.setattr(planning, "_solving_speed", solving_speed)
    monkeypatch.setattr(planning, "_table_speed", lambda *_: SPEEDS.table_weights)
    return solved


def test_efforts_are_in_order() -> None:
    costs = [products(MODEL, spec) for spec in SPECS.values()]
    assert costs == sorted(set(costs))
    assert SPECS["normal"] == CompressSpec()


@pytest.mark.parametrize("name", EFFORTS)
def test_the_most_that_fits_is_chosen(machine: list[Any], name: str) -> None:
    made = plan(MODEL, SPECS, 1.0001 * expected(SPECS[name]), threads=1)
    assert (made.name, made.spec, made.fits) == (name, SPECS[name], True)
    assert made.seconds == pytest.approx(expected(SPECS[name]))


def test_where_nothing_fits_the_least_is_taken(machine: list[Any]) -> None:
    made = plan(MODEL, SPECS, 1e-3, threads=1)
    assert (made.name, made.fits) == ("least", False)
    assert machine == [SPECS["least"].decompose]  # products alone ruled out the others


def test_without_a_limit_the_last_is_taken_and_told(machine: list[Any]) -> None:
    made = plan(MODEL, SPECS, threads=1)
    assert (made.name, made.fits) == ("thorough", True)
    beside = plan(MODEL, SPECS, threads=1, beside=5e9)
    assert beside.seconds == pytest.approx(made.seconds + 5)


def test_what_is_not_done_costs_nothing() -> None:
    full = CompressSpec()

    def cost(**changes: Any) -> float:
        calibration = dataclasses.replace(full.calibration, **changes)
        return products(MODEL, dataclasses.replace(full, calibration=calibration))

    assert cost(files=("text.txt",)) < cost()
    assert cost(streams="original") < cost()
    text = cost() - cost(files=("text.txt",))
    twice = cost(nsamples=128) - cost(nsamples=128, files=("text.txt",))
    assert text < twice < 2 * text  # more sequences are written at a better speed
    budget = AllocationSpec(bits_per_weight=2.5, passes=7, heldout_windows=3, heldout_tokens=10)
    passes = products(MODEL, full, budget) - products(MODEL, full)
    assert passes == pytest.approx(planning.pass_products(MODEL, 210))
    for sweeps, passes in ((2, 2), (0, 4)):
        decompose = dataclasses.replace(full.decompose, polish_sweeps=sweeps)
        spec = dataclasses.replace(full, decompose=decompose)
        once = weights_solved(MODEL, spec)
        assert weights_solved(MODEL, spec, budget) == pytest.approx(passes * once)


@pytest.mark.parametrize("tied", [True, False])
def test_tables_count_as_they_are_rounded(tied: bool) -> None:
    """A head with feedback, an embedding that is none without, and none of 16 bits."""
    model = tiny_model(tie_word_embeddings=tied)
    size = float(math.prod(model.tensors.shape(model.tensors.tables[EMBEDDING])))
    spec = CompressSpec(embed_bits=6, head_bits=6)
    assert table_weights_rounded(model, spec) == (size if tied else 1.5 * size)
    plain = dataclasses.replace(
        spec, decompose=dataclasses.replace(spec.decompose, recipe="round-to-nearest")
    )
    assert table_weights_rounded(model, plain) == (0.5 * size if tied else size)
    wide = dataclasses.replace(spec, embed_bits=16, head_bits=16)
    assert table_weights_rounded(model, wide) == 0


def test_few_tokens_of_many_inputs_cost_as_rows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither n^2 a token nor n^3, and no more than where their moment is kept."""
    spec = CompressSpec(calibration=CalibrationSpec(("t",), nsamples=1, seqlen=4))
    wide = tiny_model(intermediate_size=2048)
    whole = products(wide, spec)
    monkeypatch.setattr("lrc.linalg.row_moment.LEAST_INPUTS", 2048)
    assert products(wide, spec) < whole - 2048**3


def test_speeds_are_measured_on_any_number_of_threads() -> None:
    spec = CompressSpec(calibration=CalibrationSpec(nsamples=1, seqlen=8))
    quick = {"only": dataclasses.replace(spec, decompose=EFFORTS["least"].spec().decompose)}
    for threads in (1, 2):
        made = plan(MODEL, quick, threads=threads)
        assert 0 < made.seconds < 600
        assert made.speeds.multiplications > 1e6
        assert made.speeds.weights > 1e3
        assert made.speeds.table_weights > 1e3


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_probe_solves_under_every_statistic(
    statistic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SOLVED", 64)
    options = {"recipe": "low-rank", "rotation": "none", "low_rank": {"rank": 4}}
    spec = CompressSpec.from_dict({"decompose": options | {"statistic": statistic}})
    assert planning._solving_speed(spec.decompose, 1) > 0


def test_the_demo_plans_for_the_minutes_that_are_left(
    machine: list[Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 100.0)
    early, late = (demo_plan(model, 1, began, 64) for began in (100.0, -1e6))
    assert early["fits"]
    assert early["effort"] == "normal"
    assert late["effort"] == "least"
    assert not late["fits"]
    assert CompressSpec.from_dict(early["spec"]) == demo_spec("normal")


def test_plain_rounding_has_the_bits_of_what_it_is_shown_beside() -> None:
    spec = demo_spec("normal")
    plain = rounded_spec(spec)
    assert plain.decompose.quant.bits == spec.decompose.quant.bits
    assert plain.table_bits() == spec.table_bits()
    assert plain.decompose.recipe == "round-to-nearest"
    assert plain.decompose.quant.group_size == ROUNDED_GROUP
