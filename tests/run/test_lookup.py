"""Tokens that are read ahead change nothing but the time that a text takes."""

import hypothesis.strategies as st
import numpy as np
import pytest
from budget import few
from hypothesis import given
from packed_models import packed_model
from tiny_llama import tiny_model

from lrc.errors import SpecError
from lrc.nn.engine import prompt_program
from lrc.run.generate import Decoder, generate
from lrc.run.lookup import Lookup, ReadAhead
from lrc.run.sampler import Sampler
from lrc.run.stream import Stream
from lrc_kernels.simd import paths as simd_paths

MODEL = tiny_model(seed=19, num_key_value_heads=2)
#: Tokens of so few kinds repeat at once.
PROMPTS = st.lists(st.integers(0, 3), min_size=1, max_size=24)
SAMPLERS = st.sampled_from(
    [Sampler(), Sampler(temperature=0.7, top_p=0.9), Sampler(0.3, repetition_penalty=1.2)]
)


class Oracle(Lookup):
    """Proposes what it is told, wherever in the text it is."""

    def __init__(self, text):
        super().__init__(0)
        self.text, self.place, self.calls = text, 0, 0

    def add(self, token):
        self.place += 1

    def propose(self, room):
        self.calls += 1
        return self.text[self.place : self.place + min(4, room)]


@given(PROMPTS, SAMPLERS, st.integers(1, 64), st.integers(1, 40))
@few(2)
def test_the_text_is_that_without(prompt, sampler, lookup, count):
    plain = list(generate(MODEL, prompt, count, sampler))
    assert list(generate(MODEL, prompt, count, sampler, lookup=lookup)) == plain
    stop = {plain[count // 2]}
    cut = list(generate(MODEL, prompt, count, sampler, stop))
    assert list(generate(MODEL, prompt, count, sampler, stop, lookup=lookup)) == cut


@pytest.mark.parametrize("codebook", [("trellis12", 3), ("e8p", 2)])
def test_the_text_of_a_packed_model_is_that_on_15_bits(monkeypatch, codebook):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])
    model = packed_model({"intermediate_size": 64}, codebook=codebook)
    prompt = [1, 7, 30, 1, 7, 30, 1, 7]
    for sampler in (Sampler(), Sampler(temperature=0.8)):
        plain = list(generate(model, prompt, 40, sampler, activations="i15"))
        assert list(generate(model, prompt, 40, sampler, lookup=8)) == plain


@pytest.mark.parametrize("wrong", [None, 0, 2, 3])
def test_what_is_read_ahead_and_not_chosen_is_taken_back(wrong):
    """Proposals that are right, or wrong from some place on, leave the logits that are due."""
    prompt, text = [1, 7, 30], list(generate(MODEL, [1, 7, 30], 12))
    told = [t if wrong is None or i % 4 != wrong else (t + 1) % 48 for i, t in enumerate(text)]
    stream, plain = Stream(Decoder(MODEL, 40)), Stream(Decoder(MODEL, 40))
    ahead = ReadAhead(stream, Oracle(told))
    stream.read(prompt)
    plain.read(prompt)
    for i, token in enumerate(text):
        found, expected = ahead.after(token, 12 - i), plain.read([token])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    ahead.settle()
    assert stream.ids == plain.ids
    assert stream.decoder.cache.length == plain.decoder.cache.length
    if wrong is None:
        assert ahead.lookup.calls == 3


def test_proposals_are_what_followed_last():
    before = [9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4]
    lookup = Lookup(64, before)
    assert lookup.propose(99) == [5, 6, 7, 8, 1, 2, 3, 4]
    assert lookup.propose(3) == [5, 6, 7]
    assert Lookup(2, before).propose(99) == [5, 6]
    assert Lookup(0, before).propose(99) == []
    lookup.add(5)  # the longer it goes on in the same way, the more
    assert lookup.propose(99) == [6, 7, 8, 1, 2, 3, 4, 5, 6, 7]
    lookup.add(1)
    assert lookup.propose(99) == []


def test_proposals_rest_while_they_do_not_come():
    lookup = Lookup(32, [1, 2] * 4)
    assert lookup.propose(99) == [1, 2] * 6
    lookup.note(12, 12)
    lookup.note(10, 2)
    assert [bool(lookup.propose(99)) for _ in range(3)] == [False, True, False]
    lookup.note(10, 5)
    assert lookup.propose(99)
    assert (lookup.proposed, lookup.accepted) == (32, 19)


@pytest.mark.parametrize("lookup", [-1, 65])
def test_senseless_numbers_are_refused(lookup):
    with pytest.raises(SpecError, match=f"lookup={lookup} must lie between"):
        generate(MODEL, [1], 3, lookup=lookup)
