"""Requests of OpenAI's protocol to a tiny model, without a socket."""

import asyncio
import json

import pytest
from asgi import ask, call

from lrc.run.sampler import Sampler
from lrc.run.server import http as application

pytest.importorskip("starlette", reason="needs the extra serve")

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "Why?"}]
#: Goes on for as long as it may.
FIXED = {"seed": 5, "max_tokens": 12, "logit_bias": {"257": -100}}
SAMPLED = Sampler(temperature=1.0, seed=5, logit_bias={257: -100.0})


@pytest.fixture
def app(app_for):
    return app_for()


def expected(loaded, prompt, most=12, sampler=SAMPLED):
    return "".join(loaded.generate(prompt, most, sampler))


def test_models_are_listed(app):
    listed = call(app, "/v1/models").json
    assert [model["id"] for model in listed["data"]] == ["tiny"]
    assert call(app, "/v1/models/tiny").json == listed["data"][0]
    missing = call(app, "/v1/models/other")
    assert (missing.status, missing.json["error"]["code"]) == (404, "model_not_found")
    assert call(app, "/health").json == {"status": "ok"}


def test_a_conversation_is_answered(app, loaded):
    answer = call(app, CHAT, {"messages": MESSAGES, **FIXED}).json
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == expected(loaded, MESSAGES)
    assert choice["message"]["role"] == "assistant"
    assert (choice["finish_reason"], choice["logprobs"]) == ("length", None)
    assert answer["object"] == "chat.completion"
    count = len(loaded.prompt_ids(MESSAGES))
    usage = answer["usage"]
    assert [usage[k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")] == [
        count, 12, count + 12,
    ]  # fmt: skip


def test_what_is_streamed_is_the_whole(app):
    options = {"messages": MESSAGES, **FIXED, "logprobs": True, "top_logprobs": 2}
    whole = call(app, CHAT, options).json["choices"][0]
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    answer = call(app, CHAT, {**options, **usage})
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, *between, end, last = answer.chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"] for chunk in between]
    assert "".join(delta["content"] for delta in deltas) == whole["message"]["content"]
    scored = [chunk["choices"][0]["logprobs"] for chunk in between]
    scores = [score for one in scored if one for score in one["content"]]
    assert len(scores) == 12
    # What is known of the prompt is not read again, which is another order of sums.
    for found, one in zip(scores, whole["logprobs"]["content"], strict=True):
        assert found["token"] == one["token"]
        assert found["logprob"] == pytest.approx(one["logprob"], abs=1e-4)
        assert [t["token"] for t in found["top_logprobs"]] == [
            t["token"] for t in one["top_logprobs"]
        ]
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "length")
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 12
    assert len({chunk["id"] for chunk in answer.chunks}) == 1


def test_texts_are_streamed_with_their_echo(app):
    options = {"prompt": ["The quick", "A"], "echo": True, "logprobs": 1, **FIXED}
    whole = call(app, TEXT, options).json["choices"]
    chunks = call(app, TEXT, {**options, "stream": True}).chunks
    for i, choice in enumerate(whole):
        parts = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == i]
        assert "".join(part["text"] for part in parts) == choice["text"]
        for key in ("tokens", "token_logprobs", "text_offset"):
            told = [x for part in parts for x in (part["logprobs"] or {key: []})[key]]
            assert told == choice["logprobs"][key]


def test_prompts_are_texts_or_ids_or_lists_of_them(app, loaded):
    ids = loaded.prompt_ids("The quick").tolist()
    texts = []
    for prompt in ("The quick", ids, ["The quick", "A"], [ids, ids]):
        choices = call(app, TEXT, {"prompt": prompt, **FIXED}).json["choices"]
        assert [choice["index"] for choice in choices] == list(range(len(choices)))
        texts.append([choice["text"] for choice in choices])
    text = expected(loaded, "The quick")
    assert texts == [[text], [text], [text, expected(loaded, "A")], [text, text]]


def test_echo_with_scores_is_what_lm_eval_reads(app, loaded):
    """Its local-completions sums the scores of a continuation and asks whether all are greedy."""
    context, whole = "The quick", "The quick brown"
    ids = loaded.prompt_ids(whole).tolist()
    options = {"prompt": [ids], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    (choice,) = call(app, TEXT, options).json["choices"]
    scores = choice["logprobs"]
    assert choice["text"].startswith(whole)
    assert len({len(scores[key]) for key in scores}) == 1
    assert scores["token_logprobs"][0] is None
    assert "".join(scores["tokens"]) == choice["text"]
    start = len(loaded.prompt_ids(context))
    told = scores["token_logprobs"][start:-1]
    assert len(told) == len(ids) - start
    logits = loaded.model.logits(loaded.prompt_ids(whole)[None])[0]
    for i, (logprob, top) in enumerate(
        zip(told, scores["top_logprobs"][start:-1], strict=True), start
    ):
        row = logits[i - 1].astype(float)
        assert (logprob == max(top.values())) == (int(row.argmax()) == ids[i])
    alone = call(app, TEXT, {**options, "max_tokens": 0}).json["choices"][0]
    assert alone["logprobs"]["token_logprobs"] == scores["token_logprobs"][:-1]
    assert alone["text"] == whole


def test_an_end_of_text_is_scored_like_any_token_behind_an_echo(app, loaded):
    """lm-eval leaves out the last score, whatever was made."""
    options = {"prompt": "The quick", "max_tokens": 1, "logprobs": 1, "echo": True}
    ended = {**options, "logit_bias": {"257": 100}}
    whole, short = (call(app, TEXT, body).json["choices"][0] for body in (options, ended))
    assert short["text"] == "The quick"
    assert short["finish_reason"] == "stop"
    scores = [choice["logprobs"]["token_logprobs"] for choice in (whole, short)]
    assert len(scores[0]) == len(scores[1]) == len(loaded.prompt_ids("The quick")) + 1
    assert scores[0][1:-1] == pytest.approx(scores[1][1:-1], abs=1e-4)


def test_several_choices_have_seeds_of_their_own(app, loaded):
    answer = call(app, CHAT, {"messages": MESSAGES, **FIXED, "n": 3}).json
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    seeds = [Sampler.from_dict({**SAMPLED.to_dict(), "seed": 5 + i}) for i in range(3)]
    assert texts == [expected(loaded, MESSAGES, 12, sampler) for sampler in seeds]
    assert len(set(texts)) == 3
    assert answer["usage"]["prompt_tokens"] == len(loaded.prompt_ids(MESSAGES))
    assert answer["usage"]["completion_tokens"] == 36


def test_stop_strings_end_an_answer(app, loaded):
    text = expected(loaded, MESSAGES)
    stop = text[3:5]
    for given in (stop, ["\x01", stop]):
        (choice,) = call(app, CHAT, {"messages": MESSAGES, **FIXED, "stop": given}).json["choices"]
        assert choice["message"]["content"] == text[: text.index(stop)]
        assert choice["finish_reason"] == "stop"


def test_options_of_the_sampler_reach_it(app, loaded):
    given = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "repetition_penalty": 1.2,
        "presence_penalty": 0.5, "frequency_penalty": -0.5,
    }  # fmt: skip
    sampler = Sampler(**given, seed=5, logit_bias={257: -100.0})
    answer = call(app, CHAT, {"messages": MESSAGES, **FIXED, **given}).json
    assert answer["choices"][0]["message"]["content"] == expected(loaded, MESSAGES, 12, sampler)


def test_tools_reach_the_template(app, loaded, monkeypatch):
    template = "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}" + (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments.x }}{% endfor %}{% endfor %}"
    )
    monkeypatch.setattr(loaded.tokenizer, "chat_templates", {"default": template})
    tools = [{"type": "function", "function": {"name": "add"}}]
    called = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"x": 7}'}}]
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": t} for t in ("Be", ".")]},
        {"role": "assistant", "content": None, "tool_calls": called},
    ]
    body = {"messages": messages, "tools": tools, **FIXED}
    for choice, text in (("auto", "add;"), ("none", "")):
        answer = call(app, CHAT, {**body, "tool_choice": choice}).json
        prompt = loaded.tokenizer.encode(text + "system:Be.assistant:7")
        assert answer["usage"]["prompt_tokens"] == len(prompt)


BAD = [
    (CHAT, {"n": 1}, "has no messages"),
    (CHAT, {"messages": []}, "messages is an empty list"),
    (CHAT, {"messages": ["a"]}, "an object with a role"),
    (CHAT, {"messages": [{"role": "user"}]}, "has no content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "reads nothing else"),
    (CHAT, {"messages": MESSAGES, "temperature": "a"}, "temperature is 'a'; expected a number"),
    (CHAT, {"messages": MESSAGES, "temperature": -1}, "temperature=-1 must be at least 0"),
    (CHAT, {"messages": MESSAGES, "temperature": True}, "expected a number"),
    (CHAT, {"messages": MESSAGES, "max_tokens": 0}, "max_tokens=0 must be at least 1"),
    (CHAT, {"messages": MESSAGES, "max_completion_tokens": 9999}, "exceed the context of 512"),
    (CHAT, {"messages": [{"role": "user", "content": "a" * 600}]}, "exceed the context of 512"),
    (CHAT, {"messages": MESSAGES, "top_logprobs": 2}, "needs logprobs"),
    (CHAT, {"messages": MESSAGES, "logprobs": True, "top_logprobs": 99}, "from 0 to 20"),
    (CHAT, {"messages": MESSAGES, "n": 500}, "more than the 128 texts"),
    (CHAT, {"messages": MESSAGES, "stop": [""]}, "none of them empty"),
    (CHAT, {"messages": MESSAGES, "tool_choice": "required"}, "'auto' or 'none'"),
    (CHAT, {"messages": MESSAGES, "tools": ["a"]}, "list of objects"),
    (CHAT, {"messages": MESSAGES, "response_format": {"type": "xml"}}, "'xml' is not known"),
    (CHAT, {"messages": MESSAGES, "response_format": {"type": "json_schema"}}, "no json_schema"),
    (CHAT, {"messages": MESSAGES, "response_format": {"type": "text", "a": 1}}, "known here: a"),
    (TEXT, {"prompt": "a", "response_format": {}}, "response_format has no type"),
    (CHAT, {"messages": MESSAGES, "logit_bias": {"a": 1}}, "expected token ids"),
    (CHAT, {"messages": MESSAGES, "logit_bias": {"999": 1}}, "ids 0 to 257"),
    (CHAT, {"messages": MESSAGES, "nonsense": 1}, "not known here: nonsense"),
    (CHAT, {"messages": MESSAGES, "stream_options": {"a": 1}}, "not known here: a"),
    (TEXT, {"prompt": []}, "empty list"),
    (TEXT, {"prompt": [[]]}, "has no tokens"),
    (TEXT, {"prompt": [[999]]}, "0 to 257"),
    (TEXT, {"prompt": [{"a": 1}]}, "list of token ids"),
    (TEXT, {"prompt": "a", "suffix": "b"}, "suffix is 'b'"),
    (TEXT, {"prompt": "a", "best_of": 4}, "best_of is 4"),
    (TEXT, {"prompt": "a", "max_tokens": 0}, "at least 1"),
    (TEXT, b"{", "not valid JSON"),
    (TEXT, b"[1]", "expected a JSON object"),
    (TEXT, b'{"prompt": "a", "prompt": "b"}', "twice"),
    (TEXT, b"\xff", "not valid JSON"),
    (TEXT, b"[" * 100_000, "not valid JSON"),
]


def test_bad_requests_are_one_line(app):
    for path, body, words in BAD:
        answer = call(app, path, body)
        error = answer.json["error"]
        assert answer.status == 400, (body, answer.json)
        assert error["type"] == "invalid_request_error"
        assert words in error["message"]
        assert "\n" not in error["message"]


def test_what_is_not_there_is_an_error_of_the_same_shape(app):
    assert call(app, "/v1/nothing").status == 404
    assert call(app, TEXT).status == 405
    for path, body in (("/v1/nothing", None), (TEXT, None)):
        assert "message" in call(app, path, body).json["error"]


def test_pages_of_other_sites_get_nothing(app):
    """Neither by a form, which browsers send without asking, nor by a name that leads here."""
    form = {"content-type": "text/plain"}
    assert call(app, TEXT, {"prompt": "a"}, headers=form).status == 415
    assert call(app, "/v1/models", headers={"host": "evil.example:8000"}).status == 403
    assert call(app, "/v1/models", headers={"host": "localhost:8000"}).status == 200


def test_a_key_is_asked_for(app_for):
    app = app_for(api_key="sësame")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}):
        answer = call(app, "/v1/models", headers=headers)
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert call(app, "/v1/models", headers={"authorization": "bearer  sësame"}).status == 200


def test_who_goes_away_before_all_is_said_is_no_error(app):
    answer = call(app, TEXT, b"{" * 10, size=5, leave=lambda body: True, whole=False)
    assert answer.status == 499


def test_large_requests_are_refused_while_they_come(app_for):
    app = app_for(body=1000)
    answer = call(app, TEXT, {"prompt": "a" * 2000}, size=100)
    assert (answer.status, "1000 bytes" in answer.json["error"]["message"]) == (413, True)


def test_too_many_are_told_to_come_back(app_for):
    app = app_for(streams=1, waiting=2)
    answer = call(app, TEXT, {"prompt": ["a"] * 9, **FIXED})
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_away_ends_the_work(app_for, loaded, stream):
    app = app_for(streams=1)
    long = {"prompt": "a", **FIXED, "max_tokens": 450}

    async def both():
        def leave(body):
            return b"data" in body if stream else True

        await ask(app, TEXT, {**long, "stream": stream}, leave=leave)
        return await ask(app, TEXT, {"prompt": "b", **FIXED})

    started = []
    original = application.Texts.cancel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application.Texts, "cancel", lambda s: (started.append(s), original(s)))
        answer = asyncio.run(both())
    assert answer.json["choices"][0]["text"] == expected(loaded, "b")
    assert all(job.is_cancelled for job in started[0].jobs)


def test_an_error_in_the_middle_is_told_in_the_stream(app, monkeypatch):
    monkeypatch.setattr("lrc.run.server.work.Work.take", lambda *_: 1 // 0)
    answer = call(app, CHAT, {"messages": MESSAGES, **FIXED, "stream": True})
    *_, last, rest = answer.body.split(b"\n\n")
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["message"].startswith("unexpected ZeroDivisionError")
    assert rest == b""
    whole = call(app, CHAT, {"messages": MESSAGES, **FIXED})
    assert (whole.status, whole.json["error"]["type"]) == (500, "server_error")


def test_many_at_once_get_what_each_gets_alone(app_for, loaded):
    app = app_for(streams=3)
    prompts = [f"{i} The quick brown fox"[: 4 + i] for i in range(12)]

    async def all_at_once():
        return await asyncio.gather(
            *(ask(app, TEXT, {"prompt": p, **FIXED, "stream": i % 2 == 0})
              for i, p in enumerate(prompts))
        )  # fmt: skip

    for i, (prompt, answer) in enumerate(zip(prompts, asyncio.run(all_at_once()), strict=True)):
        parts = answer.chunks if i % 2 == 0 else [answer.json]
        assert "".join(p["choices"][0]["text"] for p in parts) == expected(loaded, prompt)
