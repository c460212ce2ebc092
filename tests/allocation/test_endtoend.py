"""KL of surveyed candidates against a model with the same weights; sensitivities and groups."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny

from lrc.allocation import sensitivity
from lrc.allocation.candidates import CandidateStore, Use
from lrc.allocation.endtoend import Trial, divergences
from lrc.allocation.options import Candidate, Curves, Option, matrix_options
from lrc.allocation.sensitivity import choose_groups, measure
from lrc.allocation.sizes import matrix_specs
from lrc.allocation.survey import SurveyJob, Tables, survey, survey_tables
from lrc.base.progress import SILENT
from lrc.calibrate.examples import TextExamples
from lrc.calibrate.site_moment import site_moment
from lrc.calibrate.table_options import TableOptions
from lrc.calibrate.walk import start_stream
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.linalg.norms import relative_proxy_error
from lrc.measure.evaluate import perplexity
from lrc.models import load_model
from lrc.models.tensors import linear_of
from lrc.parts.layout import stored_bytes
from lrc.quant.table import quantize_table
from lrc.spec import AllocationSpec, CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.tolerance import relative_difference

Surveyed = tuple[SurveyJob, dict[str, tuple[Option, ...]]]
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Surveyed:
    folder = tmp_path_factory.mktemp("study")
    source = Checkpoint.open(tiny.write_model(folder / "model", seed=613))
    ids = np.frombuffer(tiny.TEXT.encode(), np.uint8).astype(np.int64)
    allocation = AllocationSpec(bits_per_weight=3.0, heldout_windows=3, heldout_tokens=40)
    first, last = TextExamples(ids[: 8 * 48].reshape(8, 48)).split(allocation)
    # Ranks of 4 are not automatic ones: a solver that was given a rank keeps it.
    spec = CompressSpec(decompose=DecomposeSpec(quant=QuantSpec("e8p"), low_rank=LowRankSpec(4)))
    job = SurveyJob(
        source=source,
        model=load_model(source),
        spec=spec,
        allocation=allocation,
        surveyed=first,
        heldout=last,
        threads=2,
        store=CandidateStore(folder / "levels"),
        tables=Tables(source, TableOptions({})),
        progress=SILENT,
    )
    return job, survey(job)


def heldout(job: SurveyJob) -> np.ndarray:
    """The token windows (N, T) that models are compared on."""
    return np.concatenate(job.heldout.inputs[0])


class Changed:
    """A checkpoint with some tensors replaced."""

    is_as_read = True

    def __init__(self, source: Checkpoint, tensors: dict[str, np.ndarray]) -> None:
        self.config, self.path, self._source, self._tensors = (
            source.config, source.path, source, tensors,
        )  # fmt: skip

    def names(self) -> tuple[str, ...]:
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._source.shape(name)

    def has(self, name: str) -> bool:
        return self._source.has(name)

    def dense(self, name: str) -> np.ndarray:
        return self._tensors[name] if name in self._tensors else self._source.dense(name)

    linear = dense


def divergence(job: SurveyJob, tensors: dict[str, np.ndarray]) -> float | None:
    model = load_model(Changed(job.source, tensors))
    return perplexity(model, heldout(job), against=job.model).kl_divergence


def test_divergences_are_those_of_models_with_these_weights(surveyed: Surveyed) -> None:
    job, options = surveyed
    names = list(options)
    trials = [
        Trial(),
        Trial({names[3]: Candidate(2, 4)}),
        Trial({names[3]: Candidate(2, 4), names[-1]: Candidate(3, 0), names[7]: Candidate(4, 0)}),
        Trial(dict.fromkeys(names, Candidate(2, 0)), embed_bits=4),
        Trial(embed_bits=16),
    ]
    found = divergences(job, trials, "test")
    assert found[0] < 1e-6
    for trial, value in zip(trials[1:], found[1:], strict=True):
        tensors = {}
        for name, candidate in trial.candidates.items():
            W = job.source.linear(f"{name}.weight")
            block = int(name.split(".")[2])
            tensors[f"{name}.weight"] = job.store.matrix(block, name, candidate, W, 1.0)
        table = job.source.linear(EMBEDDING)
        if trial.embed_bits == 4:
            tensors[EMBEDDING] = quantize_table(table, 4)[0].to_dense()
        elif trial.embed_bits == 16:
            tensors[EMBEDDING] = table.astype(np.float16).astype(np.float32)
        assert value == pytest.approx(divergence(job, tensors), rel=1e-3, abs=1e-6)


def test_neither_threads_nor_neighbours_change_a_divergence(surveyed: Surveyed) -> None:
    job, options = surveyed
    trials = [Trial({name: Candidate(2, 0)}) for name in list(options)[::3]]
    both = divergences(job, trials, "test")
    assert both == divergences(dataclasses.replace(job, threads=1), trials, "test")
    assert both == [divergences(job, [trial], "test")[0] for trial in trials]


def kept_curves(job: SurveyJob, block: int) -> dict[str, Curves]:
    names = map(linear_of, job.model.tensors.linears(block).values())
    return job.store.curves(block, {name: {0, 4} for name in names})


def test_candidates_have_the_errors_that_the_survey_gives(surveyed: Surveyed) -> None:
    job, options = surveyed
    for name in list(options)[::4]:
        W = job.source.linear(f"{name}.weight")
        block = int(name.split(".")[2])
        curves = kept_curves(job, block)[name]
        assert curves[2][0] > curves[3][0] > curves[4][0] > 0
        for bits, curve in curves.items():
            assert set(curve) == {0, 4}
            assert curve[4] < curve[0]
            # A smaller share of the squared error is a smaller error in the same direction.
            whole = job.store.matrix(block, name, Candidate(bits, 0), W, 1.0)
            half = job.store.matrix(block, name, Candidate(bits, 0), W, 0.25)
            assert relative_difference(half - W, 0.5 * (whole - W)) < 1e-3


def test_errors_are_those_under_the_second_moment(surveyed: Surveyed) -> None:
    job, _ = surveyed
    (stack,) = job.model.stacks
    block = stack.load_block(0)
    stream = start_stream(stack, job.surveyed[0], 1).enter(block, 1)
    for site_index, site in enumerate(block.sites):
        H = site_moment(stream, None, 1).matrix()
        for key in site.linears:
            name = f"model.layers.0.{key}"
            W = job.source.linear(f"{name}.weight")
            for bits, curve in kept_curves(job, 0)[name].items():
                for rank, left in curve.items():
                    found = job.store.matrix(0, name, Candidate(bits, rank), W, 1.0)
                    error = relative_proxy_error(found - W, W, H)
                    assert error**2 == pytest.approx(left, rel=0.02), (name, bits, rank)
        stream = stream.step(block, site_index, 1)


@pytest.mark.parametrize("passes", [1, 3, 5, 80])
def test_groups_take_every_matrix_once(surveyed: Surveyed, passes: int) -> None:
    job, options = surveyed
    allocation = dataclasses.replace(job.allocation, passes=passes)
    limited = dataclasses.replace(job, allocation=allocation)
    uses = dict.fromkeys(job.model.tensors.matrices, Use())
    label, groups = choose_groups(limited, list(options), uses)
    assert sorted(name for group in groups for name in group) == sorted(options)
    assert label == {1: "2 blocks", 3: "block", 5: "block", 80: "matrix"}[passes]
    assert len(groups) == {1: 1, 3: 2, 5: 2, 80: 14}[passes]


def test_sensitivities_give_back_what_was_measured(
    surveyed: Surveyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, options = surveyed
    tables = survey_tables(job)
    errors = list(tables[EMBEDDING].values())
    assert errors == sorted(errors, reverse=True)
    found = measure(job, options, tables)
    assert found.group == "matrix"
    alone = divergences(job, [Trial({n: o[0].candidate}) for n, o in options.items()], "test")
    floor = sensitivity.NOISE_FLOOR * float(np.median(alone))
    for name, value in zip(options, alone, strict=True):
        assert found.slope[name] > 0
        assert found.divergence[name] == pytest.approx(max(value, floor), rel=0.1)
    assert found.tables[EMBEDDING] > 0
    # In groups, the shares add up to the group's.
    monkeypatch.setattr(sensitivity, "MOST_BYTES", 8 * 4 * job.heldout.positions * 48)
    sites = measure(job, options, {})
    assert sites.group == "site"
    trial = Trial({name: options[name][0].candidate for name in list(options)[:3]})
    together = divergences(job, [trial], "test")[0]
    shares = [sites.divergence[name] for name in list(options)[:3]]
    assert sum(shares) == pytest.approx(together)


def curves(low_rank_pays: bool) -> dict[int, dict[int, float]]:
    captured = {0: 1.0, 8: 0.4 if low_rank_pays else 0.98, 16: 0.3 if low_rank_pays else 0.97}
    return {
        bits: {rank: 4.0**-bits * left for rank, left in captured.items()} for bits in (2, 3, 4)
    }


@pytest.fixture
def automatic() -> Callable[[bool], tuple[Option, ...]]:
    def options(low_rank_pays: bool) -> tuple[Option, ...]:
        shape = (512, 512)
        solver = DecomposeSpec(quant=QuantSpec("trellis12", 2))
        known = {b: {**c, 32: c[16], 64: c[16]} for b, c in curves(low_rank_pays).items()}
        return matrix_options("x", shape, known, solver)

    return options


def test_low_rank_is_an_option_where_it_pays(
    automatic: Callable[[bool], tuple[Option, ...]],
) -> None:
    plain, paying = automatic(False), automatic(True)
    assert [str(option) for option in plain][:3] == ["2 bits", "3 bits", "4 bits"]
    assert any(option.low_rank.rank and option.quant.bits == 2 for option in paying)
    for options in (plain, paying):
        assert all(a.nbytes < b.nbytes for a, b in itertools.pairwise(options))
        assert all(a.error > b.error for a, b in itertools.pairwise(options))
        for option in options:
            spec = DecomposeSpec(quant=option.quant, low_rank=option.low_rank)
            assert option.nbytes == stored_bytes(matrix_specs("x", (512, 512), spec))


def test_rows_that_a_trellis_does_not_take_get_the_lattice() -> None:
    solver = DecomposeSpec(quant=QuantSpec("trellis12", 2), low_rank=LowRankSpec(0))
    options = matrix_options("x", (40, 64), {2: {0: 0.1}, 3: {0: 0.03}}, solver)
    assert [option.quant.codebook for option in options] == ["e8p", "e8p-rvq3"]
    assert [option.error for option in options] == [0.1, 0.03]


def test_windows_are_split_without_overlap(surveyed: Surveyed) -> None:
    job, _ = surveyed
    assert np.concatenate(job.surveyed[0]).shape == (5, 48)
    assert heldout(job).shape == (3, 40)
    assert job.heldout.first == (20, 20, 20)
    one = np.arange(20).reshape(1, 20)
    first, last = TextExamples(one).split(job.allocation)
    assert len(np.concatenate(first[0])) == len(last.inputs[0]) == 1


def test_a_second_survey_reads_what_the_first_kept(surveyed: Surveyed) -> None:
    job, options = surveyed
    files = {f.name: f.stat().st_mtime_ns for f in Path(job.store.folder).iterdir()}
    assert survey(job) == options
    assert {f.name: f.stat().st_mtime_ns for f in job.store.folder.iterdir()} == files
