"""Laws of presence and frequency penalties and of logit biases."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tiny_llama import tiny_model

from lrc.errors import SpecError
from lrc.run.generate import generate
from lrc.run.sampler import Chooser, Sampler

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12).map(
    lambda values: np.array(values, np.float32)
)
PENALTIES = st.floats(-2, 2)
MODEL, PROMPT = tiny_model(seed=19, num_key_value_heads=2), [1, 7, 30]
RNG = np.random.default_rng(1)


def text_of(data, logits):
    return data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=30))


@given(LOGITS, st.data(), PENALTIES, PENALTIES)
def test_penalties_are_taken_off_once_and_as_often_as_a_token_is_there(
    logits, data, presence, frequency
):
    expected, text = logits.astype(np.float64), text_of(data, logits)
    for token in set(text):
        expected[token] -= presence
    for token in text:
        expected[token] -= frequency
    sampler = Sampler(presence_penalty=presence, frequency_penalty=frequency)
    got = sampler.pick(logits, RNG, counts=Counter(text))
    assert expected[got] >= expected.max() - 1e-9


@given(LOGITS, st.data())
def test_a_bias_is_added(logits, data):
    ids = st.integers(0, len(logits) - 1)
    bias = data.draw(st.dictionaries(ids, st.floats(-100, 100)))
    expected = logits.astype(np.float64)
    for index, number in bias.items():
        expected[index] += number
    before = logits.copy()
    assert Sampler(logit_bias=bias).pick(logits, RNG) == expected.argmax()
    np.testing.assert_array_equal(logits, before)


@given(LOGITS, st.data(), st.floats(0.3, 2), st.integers(0, 99))
def test_the_largest_bias_decides_any_draw(logits, data, temperature, seed):
    index = data.draw(st.integers(0, len(logits) - 1))
    wanted = Sampler(temperature=temperature, logit_bias={index: 100.0})
    assert wanted.pick(logits, np.random.default_rng(seed)) == index
    if len(logits) > 1:
        banned = Sampler(temperature=temperature, logit_bias={index: -100.0})
        assert banned.pick(logits, np.random.default_rng(seed)) != index


@given(st.lists(LOGITS, min_size=1, max_size=5), st.data())
def test_a_chooser_counts_its_own_text_and_not_the_prompt(rows, data):
    size = min(map(len, rows))
    rows = [row[:size] for row in rows]
    prompt = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1)))
    sampler = Sampler(presence_penalty=1.5, repetition_penalty=1.3)
    chooser, text = Chooser(sampler, prompt), []
    for row in rows:
        expected = sampler.pick(row, RNG, {*prompt.tolist(), *text}, Counter(text))
        text.append(chooser.choose(row))
        assert text[-1] == expected


def test_a_frequency_penalty_forbids_many_of_the_same():
    free = Counter(generate(MODEL, PROMPT, 60))
    even = Counter(generate(MODEL, PROMPT, 60, Sampler(frequency_penalty=50.0)))
    assert max(free.values()) > 2
    assert max(even.values()) <= 2


def test_a_bias_for_an_id_that_the_model_lacks_is_refused_at_once():
    with pytest.raises(SpecError, match="token 48; this model has ids 0 to 47"):
        generate(MODEL, PROMPT, 3, Sampler(logit_bias={48: 1.0}))


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": {"a": 1.0}},
    ],
)
def test_senseless_values_are_refused(fields):
    with pytest.raises(SpecError, match=next(iter(fields))):
        Sampler(**fields)


def test_a_sampler_goes_through_json():
    import json

    sampler = Sampler(logit_bias={3: -1.5}, presence_penalty=0.5)
    assert Sampler.from_dict(json.loads(json.dumps(sampler.to_dict()))) == sampler
