"""Generation: greedy and nucleus sampling, limits, reproducibility."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tiny_llama import tiny_model

from lrc.calibrate.self_text import _sample_rows
from lrc.errors import SpecError
from lrc.run.generate import generate
from lrc.run.sampler import Sampler

MODEL = tiny_model(seed=19, num_key_value_heads=2)
PROMPT = [1, 7, 30]
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


def greedy_by_full_forwards(prompt, count):
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(MODEL.logits(np.array([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_is_the_argmax_of_full_forwards():
    assert list(generate(MODEL, PROMPT, 12)) == greedy_by_full_forwards(PROMPT, 12)


def test_generation_stops_before_eos():
    free = list(generate(MODEL, PROMPT, 12, Sampler(temperature=1.0)))
    stop = free[5]
    cut = free.index(stop)
    assert list(generate(MODEL, PROMPT, 12, Sampler(temperature=1.0), {stop})) == free[:cut]


def test_seeds_reproduce():
    def text(seed):
        return list(generate(MODEL, PROMPT, 20, Sampler(temperature=1.0, top_p=0.9, seed=seed)))

    assert text(5) == text(5)
    assert text(5) != text(6)


def test_the_context_may_be_filled_but_not_exceeded():
    room = MODEL.config.max_positions - len(PROMPT)
    assert len(list(generate(MODEL, PROMPT, room))) == room
    with pytest.raises(SpecError, match="exceed the model's context of 256"):
        generate(MODEL, PROMPT, room + 1)


@pytest.mark.parametrize(
    ("prompt", "count", "words"),
    [([], 3, "no tokens"), ([1], 0, "max_new_tokens=0"), ([48], 3, "knows 0 to 47")],
)
def test_senseless_requests_are_refused_at_once(prompt, count, words):
    with pytest.raises(SpecError, match=words):
        generate(MODEL, prompt, count)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"seed": -1},
    ],
)
def test_senseless_samplers_are_refused(fields):
    with pytest.raises(SpecError, match=next(iter(fields))):
        Sampler(**fields)


@given(LOGITS)
def test_temperature_zero_takes_the_first_maximum(logits):
    logits = np.array(logits, np.float32)
    got = Sampler().pick(logits, np.random.default_rng(3))
    assert got == np.flatnonzero(logits == logits.max())[0]


class Fixed:
    """A generator that returns one chosen number."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def probabilities(logits, temperature):
    wide = np.asarray(logits, np.float64) / temperature
    weights = np.exp(wide - wide.max())
    return weights / weights.sum()


@given(LOGITS, st.floats(0.2, 3), st.floats(0.05, 0.99), st.integers(0, 20))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, temperature, top_p, step):
    logits = np.array(logits, np.float32)
    p = probabilities(logits, temperature)
    sampler = Sampler(temperature=temperature, top_p=top_p)
    got = sampler.pick(logits, Fixed(step / 20.001))
    heavier = np.sort(p[p > p[got]])
    assert heavier.sum() < top_p + 1e-9  # every heavier token is needed before this one
    if step == 0:
        assert p[got] == p.max()


@given(LOGITS, st.floats(0.2, 3))
def test_sampling_inverts_the_cumulated_distribution(logits, temperature):
    logits = np.array(logits, np.float32)
    p = probabilities(logits, temperature)
    middles = np.cumsum(p) - p / 2
    sampler = Sampler(temperature=temperature)
    for expected in np.flatnonzero(p > 1e-12):  # wider than the rounding of the sums
        assert sampler.pick(logits, Fixed(middles[expected])) == expected


@given(st.integers(2, 2**32 - 1), st.sampled_from([1, 5, 255, 256, 257, 1000]))
def test_two_level_sampling_equals_one_level(seed, vocab):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (6, vocab)).astype(np.float32)
    draws = rng.random(6)
    draws[:2] = 0, np.nextafter(1, 0)
    edges = np.cumsum([probabilities(row, 1.0) for row in logits], axis=1)
    got = _sample_rows(logits.copy(), draws)
    low = np.where(got > 0, edges[np.arange(6), got - 1], 0)
    assert (low - 1e-6 <= draws).all()
    assert (draws <= edges[np.arange(6), got] + 1e-6).all()
