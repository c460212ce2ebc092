"""What the harness gets: against sums over the whole logits, with a stand-in for its base class."""

from __future__ import annotations

import importlib
import logging
import sys
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from packed_models import packed_model

import lrc
import lrc.lm_eval
from lrc.errors import SpecError
from lrc.lm_eval import __main__ as command
from lrc.lm_eval.model import HarnessModel
from lrc.measure.continuations import Continuations, rolling
from lrc.nn.engine import prompt_program
from lrc.testing.tolerance import factor_bound
from lrc_kernels.simd import paths as simd_paths


class Asked(NamedTuple):
    args: tuple


def asked(*args):
    return [Asked(one if isinstance(one, tuple) else (one,)) for one in args]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("harness") / "model")


@pytest.fixture(scope="module")
def model(path: Path) -> HarnessModel:
    return HarnessModel(str(path), threads=1, max_length=48)


def log_probabilities(model, ids):
    """Of every token after the first, and whether it is the likeliest, from all logits at once."""
    ids = np.asarray(ids)
    logits = model.head(model.hidden(ids[None, :-1]))[0].astype(np.float64)
    most = logits.max(axis=-1)
    logprobs = logits - (most + np.log(np.exp(logits - most[:, None]).sum(axis=-1)))[:, None]
    return logprobs[np.arange(len(ids) - 1), ids[1:]], logits.argmax(axis=-1) == ids[1:]


#: Of a logit, a sum over 88 channels at most.
BOUND = factor_bound(96, np.float32)


@given(st.lists(st.integers(0, 257), min_size=2, max_size=30), st.data())
def test_a_continuation_has_the_sum_of_its_tokens(model, ids, data):
    cut = data.draw(st.integers(1, len(ids) - 1))
    found = model._scorer.score(ids[:cut], ids[cut:])
    expected, greedy = log_probabilities(model.loaded.model, ids)
    assert found.logprob == pytest.approx(expected[cut - 1 :].sum(), abs=BOUND * len(ids))
    assert found.is_greedy == greedy[cut - 1 :].all()


def test_greedy_text_is_greedy(model):
    """As `generate` goes on, so it is found to."""
    prompt = [5, 6, 7]
    made = list(lrc.generate(model.loaded.model, prompt, 6))
    assert model._scorer.score(prompt, made).is_greedy
    other = [*made[:-1], (made[-1] + 1) % 258]
    assert not model._scorer.score(prompt, other).is_greedy


def test_what_was_asked_before_changes_rounding_alone():
    """A compressed model too, whose cache keeps what contexts share."""
    packed = packed_model(codebook=("e8p", 2), rank=2)
    scorer = Continuations(packed, 24, 1)
    pairs = [([1, 2, 3, 4], [5, 6]), ([1, 2, 3, 4], [7]), ([1, 2, 9], [5, 6, 7]), ([1], [2])]
    apart = [Continuations(packed, 24, 1).score(*pair) for pair in pairs]
    for one, expected in zip([*pairs, *pairs[::-1]], [*apart, *apart[::-1]], strict=True):
        assert scorer.score(*one).logprob == pytest.approx(expected.logprob, abs=3 * BOUND)


def test_several_at_a_time_change_rounding_alone(monkeypatch):
    """Those that begin alike, those that do not, and one that fills the model's sight."""
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])
    packed = packed_model({"intermediate_size": 64}, codebook=("trellis12", 3), rank=3)
    rng = np.random.default_rng(2)
    pairs = [(rng.integers(0, 48, 9).tolist(), [3, 4, 5])]
    pairs += [(pairs[0][0], rng.integers(0, 48, n).tolist()) for n in (1, 5)]
    pairs += [(rng.integers(0, 48, n).tolist(), [n]) for n in (1, 7, 15, 40)]
    alone, many = (Continuations(packed, 24, 1, together=n) for n in (1, 4))
    assert many._streams.batches
    found = dict(many.score_all(pairs))
    assert sorted(found) == list(range(len(pairs)))
    for i, pair in enumerate(pairs):
        assert found[i].logprob == pytest.approx(alone.score(*pair).logprob, abs=3 * BOUND), i


def test_batches_of_requests_are_answered_as_single_ones(model, path):
    batch = HarnessModel(str(path), threads=1, max_length=48, batch_size="auto:4")
    text, options = "The quick brown fox", {"max_gen_toks": 9, "do_sample": True}
    pairs = asked((text, "a"), ("b", text), (text, "b"), ("", "c"), ("The", " quick"))
    found, known = (m.loglikelihood(pairs, disable_tqdm=True) for m in (batch, model))
    for one, other in zip(found, known, strict=True):
        assert one == (pytest.approx(other[0], abs=BOUND * 20), other[1])
    texts = asked(*[(text[:n], {**options, "until": ["e"] * (n % 2)}) for n in range(1, 12)])
    assert batch.generate_until(texts, True) == model.generate_until(texts, True)
    with pytest.raises(SpecError, match="batch_size='many' must be a whole number"):
        HarnessModel(str(path), batch_size="many")


@given(st.integers(1, 60), st.integers(1, 17))
def test_rolling_scores_every_token_once_from_all_there_is(count, longest):
    ids = list(range(count))
    parts = list(rolling(ids, -1, longest))
    assert [i for _, scored in parts for i in scored] == ids
    for context, scored in parts:
        assert [*context, *scored] == list(range(context[0], scored[-1] + 1))
        assert len(context) + len(scored) - 1 == min(longest, scored[-1] + 1)


def test_requests_are_answered_in_their_order(model):
    text = "The quick brown fox"
    ids = [int(i) for i in model.loaded.tokenizer.encode(text)]
    pairs = [(text[:9], text[9:]), ("b", "a"), ("", text), ("The ", "quick"), (text[:9], text[9:])]
    found = model.loglikelihood(asked(*pairs), disable_tqdm=True)
    assert found[0][0] == pytest.approx(found[4][0], abs=BOUND * 20)
    every, _ = log_probabilities(model.loaded.model, [256, *ids])
    assert found[2][0] == pytest.approx(every.sum(), abs=BOUND * 20)
    # A blank that ends a context goes to what follows.
    assert model._pair("The ", "quick") == model._pair("The", " quick")
    (rolled,) = model.loglikelihood_rolling(asked(text), disable_tqdm=True)
    assert rolled == pytest.approx(found[2][0], abs=BOUND * 20)
    (long,) = model.loglikelihood_rolling(asked(text * 4), disable_tqdm=True)
    parts = rolling(ids * 4, 256, 48)
    expected = sum(model._scorer.score(*part).logprob for part in parts)
    assert long == pytest.approx(expected, abs=BOUND * len(text) * 4)


def test_texts_end_at_their_stops(model, path, caplog):
    loaded = lrc.load(path)
    whole = "".join(loaded.generate("The quick", 24))
    stop = whole[5:7]
    options = {"until": [stop, ""], "max_gen_toks": 24, "do_sample": False, "temperature": 0.7}
    found = model.generate_until(asked(("The quick", options), ("The quick", {"max_tokens": 24})),
                                 disable_tqdm=True)  # fmt: skip
    assert found == [whole[: whole.index(stop)], whole]
    with caplog.at_level(logging.WARNING):
        model.generate_until(asked(("The", {"max_gen_toks": 1, "beams": 2})), disable_tqdm=True)
    assert "beams" in caplog.text
    with pytest.raises(SpecError, match="larger max_length"):
        model.generate_until(asked(("The", {"max_gen_toks": 48})), disable_tqdm=True)


def test_samples_of_one_question_differ(model):
    options = {"do_sample": True, "max_gen_toks": 12}
    one, two = model.generate_until(asked(*[("The quick", options)] * 2), disable_tqdm=True)
    assert one != two
    assert model.generate_until(asked(("The quick", options)), disable_tqdm=True) == [one]


def test_conversations_take_the_models_template(model):
    chat = [{"role": "user", "content": "Hi"}]
    assert model.apply_chat_template(chat).endswith("<|start|>assistant\n")
    said = [*chat, {"role": "assistant", "content": "I am"}]
    assert model.apply_chat_template(said, add_generation_prompt=False).endswith("I am")
    assert model.chat_template(True) == tiny.TEMPLATE
    assert "/" not in model.tokenizer_name


def test_bos_stands_before_contexts_where_asked(path):
    begun = HarnessModel(str(path), threads=1, max_length=48, add_bos_token=True)
    plain = HarnessModel(str(path), threads=1, max_length=48)
    whole = plain._encoded(tiny.BOS + "The")
    assert begun._encoded("The") == begun._encoded(tiny.BOS + "The") == whole
    assert plain._encoded("The") == whole[1:]
    assert begun._pair("The", " fox") == (whole, plain._encoded(" fox"))
    assert begun._pair("", "The") == (whole[:1], whole[1:])


def test_what_is_not_used_is_said(path, caplog):
    with caplog.at_level(logging.WARNING):
        HarnessModel(str(path), threads=1, max_batch_size=8, device="cuda")
    assert "max_batch_size 8 not used" in caplog.text
    assert "device cuda not used" in caplog.text


def test_it_registers_where_the_harness_is(path, monkeypatch):
    """The base class sets what the cache needs; ours calls it and tells what it found."""
    registry: dict[str, type] = {}

    class LM:
        def __init__(self):
            self.cache_hook = self
            self.told = []

        def add_partial(self, *what):
            self.told.append(what)

    def register_model(*names):
        return lambda made: registry.update(dict.fromkeys(names, made))

    for name, members in (
        ("lm_eval", {}), ("lm_eval.api", {}), ("lm_eval.api.model", {"LM": LM}),
        ("lm_eval.api.registry", {"MODEL_REGISTRY": registry, "register_model": register_model}),
    ):  # fmt: skip
        module = types.ModuleType(name)
        vars(module).update(members)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    importlib.reload(lrc.lm_eval)
    made = registry["lrc"]
    assert issubclass(made, LM)
    assert lrc.lm_eval.registered() is made
    model = made(pretrained=str(path), threads=1)
    (found,) = model.loglikelihood(asked(("a", "b")), disable_tqdm=True)
    assert model.told == [("loglikelihood", ("a", "b"), found)]


def test_without_the_harness_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert command.main() == 1
    assert "lrc-llm[lm-eval]" in capsys.readouterr().err
