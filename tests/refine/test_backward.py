"""Gradients of whole models, of every family."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import whisper_cases
from model_families import CASES, Case
from tiny_llama import tiny_model

from lrc.models.base import Model
from lrc.nn import attention
from lrc.refine import backward
from lrc.refine.backward import Backward
from lrc.refine.changed import Changed
from lrc.refine.embedding import embedding_gradient
from lrc.refine.rules import RULES
from lrc.refine.vjp import Pulled
from lrc.testing.gradients import Weighted, check_model_gradients, check_slope, model_arrays

SEED = 11


def parts_of(vocab: int) -> list[np.ndarray]:
    ids = np.random.default_rng(SEED).integers(0, vocab, (3, 9))
    return [ids[:2], ids[2:, :6]]


def weighted(model: Model, parts: list[np.ndarray]) -> Weighted:
    return Weighted([(len(p) * (p.shape[1] - 1), model.vocab_size) for p in parts], SEED)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_the_slope(case: Case) -> None:
    check_model_gradients(case.model(SEED), parts_of(case.vocab), SEED)


@pytest.mark.parametrize("name", whisper_cases.CASES)
def test_gradients_of_two_stacks_are_the_slope(name: str) -> None:
    case = whisper_cases.CASES[name]
    parts = [(case.features(SEED, 2), case.ids(1, 2, 8)), (case.features(3, 1), case.ids(2, 1, 5))]
    check_model_gradients(case.model(SEED), parts, SEED)


def test_a_wrong_rule_breaks_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["llama-plain"]
    for kind, rule in RULES.items():
        if kind.__name__ not in ("Norm", "Rotate", "Attend", "Gate", "Multiply", "Add"):
            continue

        def twice(*args, rule=rule):
            pulled = rule.pull(*args)
            return Pulled(tuple(None if g is None else 2 * g for g in pulled.values), pulled.named)

        with monkeypatch.context() as patch:
            patch.setitem(RULES, kind, dataclasses.replace(rule, pull=twice))
            with pytest.raises(AssertionError, match="slope along every array"):
                check_model_gradients(case.model(SEED), parts_of(case.vocab), SEED)


def test_what_enters_is_differentiated() -> None:
    model = tiny_model(num_hidden_layers=1)
    parts = parts_of(model.vocab_size)
    loss = weighted(model, parts)
    table = model.source.weights["model.embed_tokens.weight"]
    before, direction = table.copy(), np.random.default_rng(2).standard_normal(table.shape)
    found = Backward(model, Changed({}), dtype=np.float64).gradients(parts, loss)
    g = embedding_gradient(zip(parts, found.entries[0], strict=True), model.vocab_size)

    def value(t: float) -> float:
        model.release()
        model.source.weights["model.embed_tokens.weight"] = before + t * direction
        return Backward(model, Changed({}), dtype=np.float64).loss(parts, loss)

    check_slope(value, g, direction, 2 * found.loss, "the embedding")


def test_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of logits and queries may be worked on in pieces of any size."""
    model = CASES["ministral-window"].model(SEED)
    parts = parts_of(model.vocab_size)
    own, loss = model_arrays(model, parts), weighted(model, parts)
    whole = Backward(model, Changed(own), dtype=np.float64).gradients(parts, loss)
    monkeypatch.setattr(backward, "HEAD_ROWS", 3)
    monkeypatch.setattr(attention, "QUERY_BLOCK", 2)
    pieces = Backward(model, Changed(own), dtype=np.float64).gradients(parts, loss)
    assert_same(whole, pieces, rtol=1e-12)


def assert_same(one: backward.Gradients, other: backward.Gradients, rtol: float = 0.0) -> None:
    assert one.arrays.keys() == other.arrays.keys()
    for place, by_op in one.arrays.items():
        for i, named in by_op.items():
            for name, g in named.items():
                scale = np.abs(g).max()
                np.testing.assert_allclose(other.arrays[place][i][name], g, rtol, rtol * scale)


def test_threads_change_no_bit() -> None:
    model = tiny_model()
    ids = np.random.default_rng(3).integers(0, model.vocab_size, (6, 12))
    parts = [ids[i : i + 1] for i in range(6)]
    own, loss = model_arrays(model, parts), weighted(model, parts)
    one, three = (Backward(model, Changed(own), n).gradients(parts, loss) for n in (1, 3))
    assert one.loss == three.loss
    assert_same(one, three)
