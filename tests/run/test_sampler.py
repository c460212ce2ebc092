"""Laws of top-k, min-p and the repetition penalty, by exhausting the draw."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tiny_llama import tiny_model

from lrc.calibrate.self_text import _sample_rows, sample_batch
from lrc.errors import NumericalError, SpecError
from lrc.run.generate import generate
from lrc.run.sampler import Sampler, invert

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12).map(
    lambda values: np.array(values, np.float32)
)
TEMPERATURES = st.floats(0.2, 3)


class Fixed:
    """A generator that returns one chosen number."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def drawn(sampler, logits, seen=()):
    """Every id that some draw gives, likely ones certainly; there are at most 12."""
    return {sampler.pick(logits, Fixed(u), seen) for u in np.linspace(0, 1, 200, endpoint=False)}


def shares(logits, temperature):
    wide = logits.astype(np.float64) / temperature
    weights = np.exp(wide - wide.max())
    return weights / weights.sum()


@given(LOGITS, TEMPERATURES, st.integers(1, 14))
def test_top_k_keeps_the_k_likeliest(logits, temperature, k):
    order = np.argsort(-logits, kind="stable")[:k]
    got = drawn(Sampler(temperature=temperature, top_k=k), logits)
    assert got <= set(order.tolist())
    p = shares(logits[order], temperature)
    assert got >= {int(i) for i, share in zip(order, p, strict=True) if share > 1 / 190}


@given(LOGITS, TEMPERATURES, st.floats(0, 0.999))
def test_top_one_is_greedy(logits, temperature, u):
    picked = Sampler(temperature=temperature, top_k=1).pick(logits, Fixed(u))
    assert picked == Sampler().pick(logits, Fixed(u))


@given(LOGITS, TEMPERATURES, st.floats(0.01, 1))
def test_min_p_keeps_what_is_likely_beside_the_likeliest(logits, temperature, min_p):
    p = shares(logits, temperature)
    got = drawn(Sampler(temperature=temperature, min_p=min_p), logits)
    assert all(p[i] >= min_p * p.max() * (1 - 1e-9) for i in got)
    kept = p >= min_p * p.max() * (1 + 1e-9)
    renormalised = np.where(kept, p, 0) / p.sum(where=p >= min_p * p.max() * (1 - 1e-9))
    assert got >= set(np.flatnonzero(renormalised > 1 / 190).tolist())


@given(LOGITS, TEMPERATURES, st.floats(0, 0.999), st.floats(0.05, 1))
def test_options_that_keep_all_change_nothing(logits, temperature, u, top_p):
    plain = Sampler(temperature=temperature, top_p=top_p)
    off = Sampler(temperature=temperature, top_p=top_p, min_p=0, repetition_penalty=1)
    assert off.pick(logits, Fixed(u), {0}) == plain.pick(logits, Fixed(u))


@given(LOGITS, TEMPERATURES, st.integers(1, 12), st.floats(0.05, 0.99), st.floats(0.01, 1))
def test_each_option_works_on_what_is_left(logits, temperature, k, top_p, min_p):
    """The likeliest of the k likeliest, renormalised, then those near the likeliest."""
    sampler = Sampler(temperature=temperature, top_k=k, top_p=top_p, min_p=min_p)
    order = np.argsort(-logits, kind="stable")[:k]
    p = shares(logits[order], temperature)
    before = np.cumsum(p) - p
    allowed = (before < top_p + 1e-9) & (p >= min_p * p[0] * (1 - 1e-9))
    assert drawn(sampler, logits) <= set(order[allowed].tolist())


@given(LOGITS, st.data(), st.floats(0.25, 8))
def test_the_penalty_divides_what_was_there(logits, data, penalty):
    seen = data.draw(st.lists(st.integers(0, len(logits) - 1)))
    expected = logits.astype(np.float64)
    for i in set(seen):
        expected[i] = expected[i] / penalty if expected[i] > 0 else expected[i] * penalty
    before = logits.copy()
    sampler = Sampler(repetition_penalty=penalty)
    assert sampler.pick(logits, Fixed(0), seen) == expected.argmax()
    np.testing.assert_array_equal(logits, before)
    if penalty >= 1:
        assert (expected <= logits).all()


def test_a_strong_penalty_leaves_no_repetition():
    model, prompt = tiny_model(seed=19, num_key_value_heads=2), [1, 7, 30]
    free = list(generate(model, prompt, 12, Sampler()))
    assert len({*prompt, *free}) < 15
    made = list(generate(model, prompt, 12, Sampler(repetition_penalty=1e6)))
    assert len({*prompt, *made}) == 15


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": -1},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"min_p": float("nan")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("inf")},
        {"repetition_penalty": float("nan")},
    ],
)
def test_senseless_options_are_refused(fields):
    with pytest.raises(SpecError, match=next(iter(fields))):
        Sampler(**fields)


#: Half of these weights are zero, the first and the last among them.
ENDS = np.array([-np.inf] + 500 * [0, -1e4] + [-np.inf], np.float32)


@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"top_k": 700}], ids=str)
@pytest.mark.parametrize("u", [0.0, 0.5, np.nextafter(1, 0)])
def test_what_has_no_weight_is_never_drawn(options, u):
    logits = ENDS.copy()
    assert logits[Sampler(temperature=1.0, **options).pick(logits, Fixed(u))] == 0
    assert logits[_sample_rows(ENDS[None].copy(), np.array([u]))[0]] == 0


def test_targets_that_rounding_took_too_far_find_the_nearest_weight():
    mass = np.cumsum([0.0, 0.25, 0.0, 0.75, 0.0])
    targets = [-1e-17, 0.0, 0.24, 0.25, 1.0, 1.0000001]
    assert [invert(mass, target) for target in targets] == [1, 1, 1, 3, 3, 3]


BAD = [[0, np.nan, 1], [0, np.inf, 1], [-np.inf] * 3, [np.nan] * 3]


@pytest.mark.parametrize("logits", BAD, ids=str)
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.5}])
def test_logits_that_are_not_finite_are_refused(logits, options):
    logits = np.array(logits, np.float32)
    with pytest.raises(NumericalError, match="not finite"):
        Sampler(**options).pick(logits, Fixed(0.5))
    rows = np.stack([np.zeros(3, np.float32), logits])
    with pytest.raises(NumericalError, match="not finite"):
        _sample_rows(rows, np.full(2, 0.5))


def test_a_model_whose_weights_are_damaged_is_refused():
    model = tiny_model(seed=19)
    model.blocks[1].plain["input_layernorm"][3] = np.nan
    with np.errstate(invalid="ignore"):
        with pytest.raises(NumericalError, match="fetch the model again"):
            list(generate(model, [1, 7], 3))
        with pytest.raises(NumericalError, match="fetch the model again"):
            sample_batch(model, 2, 8, 5, bos_id=1)
