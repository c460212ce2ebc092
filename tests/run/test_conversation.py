"""A conversation: every answer is what the template of all that was said gives."""

import pytest
from tiny import write_model

import lrc
from lrc.errors import SpecError
from lrc.run import conversation
from lrc.run.conversation import Conversation
from lrc.run.sampler import Sampler

#: Never ends by itself.
BIAS = {257: -100.0}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return lrc.load(write_model(tmp_path_factory.mktemp("talk") / "model"))


def talk_of(loaded, **options):
    return Conversation(loaded, Sampler(temperature=1.0, seed=5, logit_bias=BIAS), **options)


def expected(loaded, messages, seed, most):
    return "".join(loaded.generate(messages, most, Sampler(1.0, seed=seed, logit_bias=BIAS)))


def said(*texts, system=None):
    told = [] if system is None else [{"role": "system", "content": system}]
    roles = ["user", "assistant"] * len(texts)
    return told + [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]


def test_answers_follow_from_all_that_was_said(loaded):
    talk = talk_of(loaded, system="Be brief.", most=9)
    first = "".join(talk.answer("Why?"))
    assert first == expected(loaded, said("Why?", system="Be brief."), 5, 9)
    assert talk.messages == said("Why?", first, system="Be brief.")
    second = "".join(talk.answer("How?"))
    assert second == expected(loaded, said("Why?", first, "How?", system="Be brief."), 6, 9)


def test_what_was_said_is_not_read_again(loaded):
    talk, read = talk_of(loaded, most=4), []
    original = talk._stream.read
    talk._stream.read = lambda ids: (read.append(len(ids)), original(ids))[1]
    "".join(talk.answer("Why is the sky blue?"))
    prompt = len(loaded.prompt_ids(said("Why is the sky blue?")))
    assert read[0] == prompt
    del read[:]
    "".join(talk.answer("How?"))
    whole = len(loaded.prompt_ids(talk.messages[:-1]))
    assert read[0] <= whole - prompt


def test_an_answer_that_is_stopped_stays_as_far_as_it_came(loaded):
    talk = talk_of(loaded)
    pieces = talk.answer("Why?")
    begun = "".join(next(pieces) for _ in range(3))
    pieces.close()
    assert talk.messages == said("Why?", begun)
    talk._most = 5
    second = "".join(talk.answer("How?"))
    assert second == expected(loaded, said("Why?", begun, "How?"), 6, 5)


def test_an_interrupt_inside_leaves_the_conversation_whole(loaded, monkeypatch):
    talk, calls = talk_of(loaded, most=6), []
    original = talk._stream.decoder.advance

    def advance(ids):
        calls.append(ids)
        logits = original(ids)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return logits

    monkeypatch.setattr(talk._stream.decoder, "advance", advance)
    with pytest.raises(KeyboardInterrupt):
        list(talk.answer("Why?"))
    begun = talk.messages[-1]["content"]
    second = "".join(talk.answer("How?"))
    assert second == expected(loaded, said("Why?", begun, "How?"), 6, 6)


def test_a_conversation_begins_anew(loaded):
    talk = talk_of(loaded, most=3)
    "".join(talk.answer("Why?"))
    talk.reset()
    assert talk.messages == []
    talk.reset("Rhyme.")
    assert talk.messages == said(system="Rhyme.")
    assert talk.retract() is None
    "".join(talk.answer("How?"))
    assert talk.retract() == "How?"
    assert talk.messages == said(system="Rhyme.")


def test_a_full_context_is_told_and_nothing_is_lost(loaded, monkeypatch):
    monkeypatch.setattr(conversation, "CONTEXT", 60)
    talk = talk_of(loaded, most=5)
    "".join(talk.answer("Why?"))
    before = list(talk.messages)
    with pytest.raises(SpecError, match="leave no room in the context of 60; begin a new one"):
        talk.answer("How?" * 30)
    assert talk.messages == before
    free = talk_of(loaded)
    assert len(loaded.tokenizer.encode("".join(free.answer("Why?")))) >= 10


def test_senseless_options_are_refused_at_once(loaded):
    with pytest.raises(SpecError, match="most=0"):
        talk_of(loaded, most=0)
    with pytest.raises(SpecError, match="empty"):
        talk_of(loaded, stop=[""])
    with pytest.raises(SpecError, match="ids 0 to 257"):
        Conversation(loaded, Sampler(logit_bias={999: 1.0}))
