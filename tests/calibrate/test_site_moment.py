"""Second moments of experts: of their own tokens by their shares, and of others where few."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from model_families import FAMILIES
from random_weights import MemorySource, random_weights

from lrc.calibrate import site_moment as site_moment_module
from lrc.calibrate import streams as streams_module
from lrc.calibrate.site_moment import Routed, site_moment
from lrc.calibrate.streams import Stream, window_chunks
from lrc.calibrate.walk import SiteAtWork, Streams, replaced, start_stream, walk
from lrc.errors import CalibrationError
from lrc.linalg import precision
from lrc.linalg.row_moment import RowMoment
from lrc.linalg.second_moment import SecondMoment
from lrc.models import declared, load_model
from lrc.models.base import Block, Model
from lrc.models.block import ProgramBlock
from lrc.nn.linear import Linear
from lrc.nn.ops import STREAM, Pass
from lrc.nn.routing import Dispatch
from lrc.testing.tolerance import assert_within, relative_difference

IDS = np.random.default_rng(5).integers(0, 48, (6, 20))
TOKENS, HIDDEN, EXPERTS, DEAD = IDS.size, 32, 6, 3
CONFIG = {
    **FAMILIES["qwen3_moe"]["plain"].config,
    **{"num_experts": EXPERTS, "num_experts_per_tok": 1, "norm_topk_prob": False},
}


def model_of() -> Model:
    """A tiny mixture of which one expert is never chosen."""
    weights = random_weights(declared(CONFIG), 3)
    for layer in range(2):
        router = weights[f"model.layers.{layer}.mlp.gate.weight"]
        others = np.arange(EXPERTS) != DEAD
        router[others] = np.random.default_rng(layer).standard_normal((EXPERTS - 1, HIDDEN)) / 4
        router[DEAD] = router[others].mean(axis=0)  # never the largest
    return load_model(MemorySource(dict(CONFIG), weights))


MODEL = model_of()
BLOCKS = [MODEL.stacks[0].load_block(index) for index in range(2)]


def copied(stream: Stream) -> list[dict[str, np.ndarray]]:
    return [{name: value.copy() for name, value in of.items()} for of in stream.values]


@dataclasses.dataclass
class Looking:
    """Notes moments, and what they are of; returns layers on ``factor`` times the weights."""

    factor: float = 1.0
    gap: bool = False
    seen: list[tuple[SiteAtWork, SecondMoment]] = dataclasses.field(default_factory=list)
    values: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)

    def begin(self, block: int) -> bool:
        return True

    def replay(self, block: int, dense: Block) -> dict[str, Linear]:
        raise AssertionError

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        self.seen.append((at, at.moment(residual_gap=self.gap and at.site.writes)))
        both = (at.streams.student, at.streams.original)
        self.values.append(tuple(s and copied(s) for s in both))
        return {
            key: replaced(at.dense, key, at.weight(key) * np.float32(self.factor))
            for key in at.site.linears
        }

    def end(self, block: int) -> None:
        pass


def looked(visitor: Looking, *, two: bool, threads: int = 1, all_experts: bool = False) -> Looking:
    (stack,) = MODEL.stacks
    chunks = window_chunks(IDS)
    original = start_stream(stack, chunks, threads, all_experts=all_experts) if two else None
    student = start_stream(stack, chunks, threads, all_experts=all_experts)
    walk(stack, Streams(student, original), visitor, threads)
    return visitor


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two windows a chunk, and a sample of some tokens of each."""
    monkeypatch.setattr(streams_module, "CHUNK_TOKENS", 2 * IDS.shape[1])
    monkeypatch.setattr(streams_module, "SAMPLED_TOKENS", TOKENS // 5)


def inputs_of(block: ProgramBlock, expert: int, values: dict, rows: np.ndarray) -> tuple:
    """What an expert's layers multiply at some tokens, from the values that its block keeps."""
    x = values["x"].reshape(-1, HIDDEN)[rows].astype(np.float64)
    w1, w3 = (
        block.linears[f"mlp.experts.{expert}.{key}"].weight.astype(np.float64)
        for key in ("gate_proj", "up_proj")
    )
    gate = x @ w1.T
    return x, gate / (1 + np.exp(-gate)) * (x @ w3.T)


def normalised(H: np.ndarray) -> np.ndarray:
    return H / np.trace(H)


@pytest.mark.parametrize("threads", [1, 2])
def test_moments_of_an_expert_are_of_its_tokens_and_of_others(threads: int) -> None:
    """Held to sums over single tokens."""
    visitor = looked(Looking(), two=False, threads=threads)
    experts, few = 0, 0
    for (at, moment), (chunks, _) in zip(visitor.seen, visitor.values, strict=True):
        if "expert_" not in at.site.name:
            assert (moment.borrowed, at.site.name[:4]) in ((0.0, "attn"),)
            continue
        expert = int(at.site.name.split(".")[1])
        deep = int(at.site.writes)
        own, everything, weights = [], [], []
        for values in chunks:
            shares = values["routing"].reshape(-1, EXPERTS)[:, expert]
            routed = np.flatnonzero(shares)
            own.append(inputs_of(BLOCKS[at.block], expert, values, routed)[deep])
            weights.append(shares[routed].astype(np.float64))
            sample = np.arange(len(shares))[2::5] if deep else np.arange(len(shares))
            everything.append(inputs_of(BLOCKS[at.block], expert, values, sample)[deep])
        z, others, w = map(np.concatenate, (own, everything, weights))
        assert len(z) == len(w)
        n = z.shape[1]
        effective = (w**2).sum() ** 2 / max((w**4).sum(), 1e-30)
        prior = min(n, len(others))
        borrowed = prior / (effective + prior)
        assert moment.borrowed == pytest.approx(borrowed, rel=1e-5)
        assert moment.rows == len(z)
        expected = borrowed * normalised(others.T @ others)
        if len(z):
            expected = expected + (1 - borrowed) * normalised((z * w[:, None] ** 2).T @ z)
        found = normalised(moment.matrix())
        assert_within(relative_difference(found, expected), 1e-5, f"H of {at.name}")
        experts += 1
        few += len(z) == 0
        assert len(z) == 0 or expert != DEAD
    assert experts == 2 * 2 * EXPERTS
    assert few >= 2


def test_threads_do_not_change_a_bit() -> None:
    one, two = (looked(Looking(0.5, gap=True), two=True, threads=t) for t in (1, 2))
    for (_, mine), (_, other) in zip(one.seen, two.seen, strict=True):
        np.testing.assert_array_equal(mine.matrix(), other.matrix())
        np.testing.assert_array_equal(mine.cross(), other.cross())


def test_the_student_has_the_experts_of_the_original() -> None:
    """Whatever has become of its inputs; without an original it has its own."""
    both = looked(Looking(0.7), two=True)
    alone = looked(Looking(0.7), two=False)
    differ = 0
    for (student, original), (own, _) in zip(both.values, alone.values, strict=True):
        for mine, theirs, lone in zip(student, original or (), own, strict=True):
            if "routing" in mine:
                np.testing.assert_array_equal(mine["routing"], theirs["routing"])
                assert not np.array_equal(mine["x"], theirs["x"])
                differ += not np.array_equal(lone["routing"] > 0, theirs["routing"] > 0)
    assert differ > 0


def test_equal_streams_have_equal_moments() -> None:
    for at, moment in looked(Looking(gap=True), two=True).seen:
        H, C = moment.matrix(), moment.cross()
        assert_within(relative_difference(C, H), 1e-5, f"C of {at.name}")
        gap = moment.residual_gap()
        assert gap is None or not gap.any()


def test_the_gap_is_of_the_experts_tokens_in_proportion_to_its_share() -> None:
    visitor = looked(Looking(0.7, gap=True), two=True)
    seen = 0
    for (at, moment), (student, original) in zip(visitor.seen, visitor.values, strict=True):
        if "expert_" not in at.site.name or not at.site.writes or not moment.rows:
            continue
        expert = int(at.site.name.split(".")[1])
        total, weight = np.zeros((HIDDEN, at.dense.config.experts.width)), 0.0
        for mine, theirs in zip(student, original or (), strict=True):
            shares = mine["routing"].reshape(-1, EXPERTS)[:, expert].astype(np.float64)
            rows = np.flatnonzero(shares)
            gap = (theirs[STREAM] - mine[STREAM]).reshape(-1, HIDDEN)[rows]
            # The student's own layers before this one: a gated product of 0.7 times the weights.
            whole = BLOCKS[at.block]
            half = whole.with_linears(
                {
                    key: replaced(whole, key, linear.weight * np.float32(0.7))
                    for key, linear in whole.linears.items()
                }
            )
            z = inputs_of(half, expert, mine, rows)[1]
            total += (gap * shares[rows, None] ** 2).T @ z
            weight += (shares**2).sum()
        found, expected = moment.residual_gap(), (1 - moment.borrowed) * total / weight
        assert found is not None
        assert_within(relative_difference(found, expected), 1e-4, f"D of {at.name}")
        seen += 1
    assert seen > EXPERTS


def test_all_experts_may_see_all_tokens_alike() -> None:
    visitor = looked(Looking(gap=True), two=True, all_experts=True)
    for (at, moment), (chunks, _) in zip(visitor.seen, visitor.values, strict=True):
        if "expert_" not in at.site.name:
            continue
        expert, deep = int(at.site.name.split(".")[1]), int(at.site.writes)
        everything = np.arange(2 * IDS.shape[1])
        seen = [inputs_of(BLOCKS[at.block], expert, values, everything) for values in chunks]
        z = np.concatenate([of[deep] for of in seen])
        assert len(z) == TOKENS
        assert moment.effective_rows == pytest.approx(TOKENS)
        assert moment.residual_gap() is None
        assert_within(
            relative_difference(moment.matrix(), z.T @ z / TOKENS), 1e-5, f"H of {at.name}"
        )
        assert moment.borrowed == 1.0


@dataclasses.dataclass
class Reading(Looking):
    """Takes what a moment has while the streams are there."""

    read: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        result = super().visit(at)
        moment = self.seen[-1][1]
        self.read.append((moment.matrix(), moment.cross(), moment.residual_gap()))
        return result


@pytest.mark.parametrize("all_experts", [False, True])
def test_rows_of_few_tokens_are_those_of_the_products(
    monkeypatch: pytest.MonkeyPatch, all_experts: bool
) -> None:
    """At every site that may have them: not where experts read what all of them share."""
    products = looked(Reading(0.7, gap=True), two=True, all_experts=all_experts)
    monkeypatch.setattr(site_moment_module, "rows_are_few", lambda tokens, n: tokens <= 2 * TOKENS)
    few = looked(Reading(0.7, gap=True), two=True, all_experts=all_experts)
    of_rows = 0
    for number, (at, found) in enumerate(few.seen):
        (H, x, gap), (expected, C, D) = few.read[number], products.read[number]
        assert found.borrowed == pytest.approx(products.seen[number][1].borrowed, rel=1e-6)
        if "expert_input" in at.site.name:
            assert isinstance(found, SecondMoment)
            continue
        assert isinstance(found, RowMoment), at.site.name
        z = H.rows
        assert_within(relative_difference(z.T @ z, expected), 1e-5, f"H of {at.name}")
        assert_within(relative_difference(x.T @ z, C), 1e-5, f"C of {at.name}")
        assert (gap is None) == (D is None)
        if gap is not None and D.any():
            assert_within(relative_difference(gap.T @ z, D), 1e-4, f"D of {at.name}")
        of_rows += 1
    assert of_rows == 2 * (2 + EXPERTS)


@pytest.mark.parametrize("threads", [1, 2])
def test_wide_moments_are_those_of_narrow_ones(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Summed by parts, in float32; of an expert that saw nothing, too."""
    narrow = looked(Reading(0.7, gap=True), two=True)
    monkeypatch.setattr(precision, "WIDE", 1)
    wide = looked(Reading(0.7, gap=True), two=True, threads=threads)
    unseen = 0
    for (at, moment), found, expected in zip(wide.seen, wide.read, narrow.read, strict=True):
        unseen += moment.rows == 0
        for name, mine, other in zip("HCD", found, expected, strict=True):
            assert (mine is None) == (other is None)
            if mine is not None and other.any():
                assert mine.dtype == np.float32
                difference = relative_difference(mine, other)
                assert_within(difference, 1e-4 if name == "D" else 1e-5, f"{name} of {at.name}")
    assert unseen >= 2


def test_tokens_that_experts_only_look_at_change_no_stream() -> None:
    hidden = MODEL.hidden(IDS)
    for all_experts in (False, True):
        (stack,) = MODEL.stacks
        student = start_stream(stack, window_chunks(IDS), 1, all_experts=all_experts)
        walk(stack, Streams(student), Looking(), 1)
        found = np.concatenate(student.hidden)
        assert_within(relative_difference(found, hidden), 1e-5, "residual stream")


def test_counts_are_of_routed_tokens() -> None:
    @dataclasses.dataclass
    class Counting(Looking):
        counts: dict[str, Any] = dataclasses.field(default_factory=dict)

        def visit(self, at: SiteAtWork) -> dict[str, Linear]:
            self.counts[at.name] = at.routed
            return {}

    counts = looked(Counting(), two=False).counts  # type: ignore[attr-defined]
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        of = [counts[f"{prefix}expert_input.{e}"] for e in range(EXPERTS)]
        assert of == [counts[f"{prefix}expert_output.{e}"] for e in range(EXPERTS)]
        assert sum(routed.tokens for routed in of) == TOKENS
        assert of[DEAD] == Routed(0, 0.0, 0.0)
        assert all(0 < r.mass <= r.part == r.tokens / TOKENS for r in of if r.tokens)
        assert counts[f"{prefix}attn_input"] is None


def test_nothing_is_left_where_no_token_is_finite() -> None:
    (stack,) = MODEL.stacks
    stream = start_stream(stack, window_chunks(IDS), 1)
    for hidden in stream.hidden:
        hidden[:] = np.nan
    block = stack.load_block(0)
    with np.errstate(invalid="ignore"):
        stream.enter(block, 1)
        for site in range(3):
            stream.step(block, site, 1)
        moment = site_moment(stream, None, 1)
    with pytest.raises(CalibrationError):
        moment.matrix()


def test_a_sample_is_gathered_once_a_token() -> None:
    dispatch = Dispatch(0, "x", "routing", "routed")
    values = {"routing": np.array([[[1.0], [0.0], [0.5], [0.0]]], np.float32)}
    assert dispatch.rows(values, Pass(np.arange(4), every=2)).tolist() == [0, 1, 2, 3]
    assert dispatch.rows(values, Pass(np.arange(4), every=4)).tolist() == [0, 2]
