"""Many texts at once: each is what it is alone, none waits for all of another, all can be ended."""

import contextlib
import queue
import threading

import numpy as np
import pytest

import lrc
from lrc.errors import NumericalError
from lrc.run.sampler import Sampler
from lrc.run.server import scheduler as scheduling
from lrc.run.server.jobs import Ask, End, Failure, Job, Piece
from lrc.run.server.scheduler import BusyError, StoppedError

SAMPLED = Sampler(temperature=1.0, seed=5)
#: Goes on for as long as it may.
ENDLESS = Sampler(temperature=1.0, seed=5, logit_bias={257: -100.0})


class Told:
    """Events of a job as they come."""

    def __init__(self, ask, log=None):
        self.events, self.job = queue.SimpleQueue(), Job(ask, self.tell)
        self.log, self.pause = log, threading.Event()
        self.pause.set()

    def tell(self, event):
        self.pause.wait(20)
        if self.log is not None and isinstance(event, Piece):
            self.log.append(self)
        self.events.put(event)

    def next(self):
        return self.events.get(timeout=60)

    def all(self):
        found = []
        while not found or isinstance(found[-1], Piece):
            found.append(self.next())
        return found

    def text(self):
        *pieces, end = self.all()
        assert isinstance(end, End), end
        return "".join(piece.text for piece in pieces)


def ask_for(loaded, text, most=12, sampler=SAMPLED, **options):
    return Ask(tuple(loaded.prompt_ids(text).tolist()), most, sampler, **options)


def made(scheduler, asks):
    told = [Told(ask) for ask in asks]
    scheduler.submit([one.job for one in told])
    return told


def test_texts_at_once_are_those_of_texts_alone(loaded, scheduler_for):
    prompts = [f"{'The quick brown fox ' * (i % 4)}{i}" for i in range(7)]
    told = made(scheduler_for(streams=3), [ask_for(loaded, prompt) for prompt in prompts])
    for prompt, one in zip(prompts, told, strict=True):
        assert one.text() == "".join(loaded.generate(prompt, 12, SAMPLED))


def test_texts_that_are_read_ahead_are_those_that_are_not(loaded, scheduler_for):
    prompts = ["abcabcabcab", "one two one two one", "nothing again"]
    asks = [ask_for(loaded, text, 30, ENDLESS) for text in prompts]
    plain = [one.text() for one in made(scheduler_for(streams=3), asks)]
    ahead = scheduler_for(streams=3, lookup=16)
    assert [one.text() for one in made(ahead, asks)] == plain
    for stream in ahead.streams.streams:
        assert stream.decoder.cache.length == len(stream.ids)


def test_texts_take_it_in_order(loaded, scheduler_for):
    """Of texts under way none gets a second token before all have got one."""
    log, scheduler = [], scheduler_for(streams=4)
    told = [Told(ask_for(loaded, "abc" * (i + 1), 30, ENDLESS, likeliest=0), log) for i in range(4)]
    scheduler.submit([one.job for one in told])
    for one in told:
        one.text()
    last = max(log.index(one) for one in told)
    first_end = min(len(log) - 1 - log[::-1].index(one) for one in told)
    between = log[last + 1 : first_end]
    assert len(between) > 20
    for i in range(0, len(between) - 4, 4):
        assert len(set(map(id, between[i : i + 4]))) == 4


def test_a_long_prompt_keeps_no_text_waiting(loaded, scheduler_for, monkeypatch):
    monkeypatch.setattr(scheduling, "BESIDE", 8)
    scheduler, log = scheduler_for(streams=2), []
    short, long = (
        Told(ask_for(loaded, text, 60, ENDLESS, likeliest=0), log) for text in ("a", "b" * 300)
    )
    short.pause.clear()
    scheduler.submit([short.job, long.job])
    short.pause.set()
    short.text()
    assert log[:20] == [short] * 20
    long.text()


def test_what_is_known_of_a_conversation_is_not_read_again(loaded, scheduler_for):
    scheduler = scheduler_for(streams=2)
    first = ask_for(loaded, "The quick brown fox", 9)
    (told,) = made(scheduler, [first])
    *pieces, end = told.all()
    assert end.reused == 0
    text = "The quick brown fox" + "".join(piece.text for piece in pieces)
    (other,) = made(scheduler, [ask_for(loaded, "zzz", 3)])
    other.text()
    (again,) = made(scheduler, [ask_for(loaded, "The quick brown fox jumps", 9)])
    *pieces, end = again.all()
    assert end.reused == len(first.ids)
    assert text
    expected = "".join(loaded.generate("The quick brown fox jumps", 9, SAMPLED))
    assert "".join(piece.text for piece in pieces) == expected


def test_a_text_that_nobody_wants_ends(loaded, scheduler_for):
    scheduler = scheduler_for(streams=1)
    left, next_one = made(scheduler, [ask_for(loaded, "a", 400, ENDLESS), ask_for(loaded, "b", 2)])
    left.next()
    left.job.cancel()
    assert len(next_one.text()) > 0
    assert left.events.qsize() < 399  # else all of it was made


def test_no_more_wait_than_may(loaded, scheduler_for):
    scheduler = scheduler_for(streams=1, waiting=2)
    first = Told(ask_for(loaded, "a", 50, ENDLESS))
    first.pause.clear()
    scheduler.submit([first.job])
    try:
        waiting = made(scheduler, [ask_for(loaded, "b", 1)])
        with contextlib.suppress(BusyError):  # the first has its stream only after a moment
            waiting += made(scheduler, [ask_for(loaded, "b", 1)])
        with pytest.raises(BusyError, match="at most 2 may wait"):
            made(scheduler, [ask_for(loaded, "b", 1)] * 2)
    finally:
        first.pause.set()
    assert all(isinstance(one.all()[-1], End) for one in [first, *waiting])


def test_stopping_ends_every_text(loaded, scheduler_for):
    scheduler = scheduler_for(streams=1)
    told = made(scheduler, [ask_for(loaded, "a", 400, ENDLESS), ask_for(loaded, "b", 2)])
    told[0].next()
    scheduler.stop()
    for one in told:
        last = one.all()[-1]
        assert isinstance(last, Failure)
        assert isinstance(last.error, StoppedError)
    with pytest.raises(StoppedError):
        scheduler.submit([])


def test_a_text_that_fails_takes_no_other_with_it(loaded, scheduler_for, monkeypatch):
    original, calls = Sampler.pick, []

    def pick(self, logits, *others):
        if self.seed == 13:
            calls.append(self)
            if len(calls) == 3:
                raise NumericalError("no token can be chosen")
        return original(self, logits, *others)

    monkeypatch.setattr(Sampler, "pick", pick)
    bad = Sampler(seed=13)
    asks = [ask_for(loaded, "a"), ask_for(loaded, "b", sampler=bad), ask_for(loaded, "c")]
    first, failed, last = made(scheduler_for(streams=3), asks)
    assert len(first.text()) == len(last.text()) > 0
    assert isinstance(failed.all()[-1].error, NumericalError)


def test_stop_strings_and_limits_end_a_text(loaded, scheduler_for):
    whole = "".join(loaded.generate("The quick", 12, SAMPLED))
    stop = whole[4:6]
    told = made(scheduler_for(), [ask_for(loaded, "The quick", stops=(stop,)),
                                  ask_for(loaded, "The quick", 5)])  # fmt: skip
    *pieces, end = told[0].all()
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
    assert end.reason == "stop"
    assert told[1].all()[-1] == End("length", 5, 0)


def test_eos_ends_a_text_and_is_not_in_it(loaded, scheduler_for, monkeypatch):
    ids = loaded.prompt_ids("The quick")
    tokens = list(lrc.generate(loaded.model, ids, 12, SAMPLED))
    monkeypatch.setattr(loaded.tokenizer, "eos_ids", (tokens[4],))
    (told,) = made(scheduler_for(), [ask_for(loaded, "The quick")])
    *pieces, end = told.all()
    count = tokens.index(tokens[4])
    assert end == End("stop", count, 0)
    assert "".join(p.text for p in pieces) == loaded.tokenizer.decode(tokens[:count])


def test_scores_are_log_probabilities_of_the_model(loaded, scheduler_for, monkeypatch):
    monkeypatch.setattr(scheduling, "ALONE", 5)
    ask = ask_for(loaded, "The quick", 3, likeliest=2, score_prompt=True)
    (told,) = made(scheduler_for(), [ask])
    *pieces, end = told.all()
    scored = [s for piece in pieces for s in piece.scored]
    ids = [s.token for s in scored]
    assert ids[: len(ask.ids)] == list(ask.ids)
    assert len(ids) == len(ask.ids) + end.made
    logits = loaded.model.logits(np.array([ids]))[0].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert scored[0].logprob is None
    for row, one in zip(logprobs[:-1], scored[1:], strict=True):
        assert one.logprob == pytest.approx(row[one.token], abs=1e-3)
        assert [i for i, _ in one.likeliest] == np.argsort(-row, kind="stable")[:2].tolist()
        for i, logprob in one.likeliest:
            assert logprob == pytest.approx(row[i], abs=1e-3)


def test_a_prompt_may_be_scored_alone(loaded, scheduler_for):
    ask = ask_for(loaded, "The quick", 0, likeliest=1, score_prompt=True)
    (told,) = made(scheduler_for(), [ask])
    *pieces, end = told.all()
    assert end == End("length", 0, 0)
    assert sum(len(piece.scored) for piece in pieces) == len(ask.ids)


class Known:
    """A stream that has some tokens."""

    def __init__(self, *ids):
        self.ids = ids

    def common(self, prompt):
        same = [a == b for a, b in zip(self.ids, prompt, strict=False)]
        return next((i for i, one in enumerate(same) if not one), len(same))


@pytest.mark.parametrize(
    ("prompt", "chosen"),
    [
        ((1, 2, 3, 9), 2),  # what it has in common is most of the prompt
        ((1, 2, 3, 4, 5, 6, 7), 1),
        ((5, 6), 0),  # nobody knows it: the longest unused
        ((1, 9, 9, 9), 0),  # too little to forget the rest for
    ],
)
def test_a_text_goes_where_most_of_it_is_known(prompt, chosen):
    free = [Known(8, 8), Known(1, 2, 3, 4, 5, 6), Known(1, 2, 3)]
    assert scheduling.choose_stream(free, prompt) is free[chosen]
