"""The official client of OpenAI reads what the server says."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest

SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "maxLength": 6}, "count": {"enum": [1, 2, 3]}},
    "required": ["word", "count"],
    "additionalProperties": False,
}
QUESTION = [{"role": "user", "content": "abcabcabc"}]


@pytest.fixture
def client_for(app_for):
    """Makes clients of servers with options, over a socket."""
    openai = pytest.importorskip("openai", reason="needs the extra clients")
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
    from lrc.run.server.listen import open_socket

    with contextlib.ExitStack() as stack:

        def make(**options):
            own = stack.enter_context(open_socket("127.0.0.1", 0))
            app = app_for(hosts=("127.0.0.1",), **options)
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
            thread.start()

            def end():
                server.should_exit = True
                thread.join(20)

            stack.callback(end)
            while not server.started:
                time.sleep(0.01)
            url = f"http://127.0.0.1:{own.getsockname()[1]}/v1"
            made = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
            return stack.enter_context(contextlib.closing(made))

        yield make


def test_answers_whole_and_in_pieces(client_for):
    client = client_for(streams=2)
    assert [model.id for model in client.models.list()] == ["tiny"]
    asked = {"model": "tiny", "messages": QUESTION, "seed": 3, "max_tokens": 12}
    whole = client.chat.completions.create(**asked)
    pieces = client.chat.completions.create(**asked, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content
    assert whole.usage.completion_tokens <= 12
    made = client.completions.create(model="tiny", prompt="abc", max_tokens=4, temperature=0)
    assert made.choices[0].finish_reason in ("stop", "length")


def test_reading_ahead_changes_no_answer(client_for):
    asked = {"model": "tiny", "prompt": "abcabcabcab", "max_tokens": 40, "seed": 1}
    texts = [
        client_for(lookup=lookup).completions.create(**asked).choices[0].text for lookup in (0, 8)
    ]
    assert texts[0] == texts[1]


def test_json_by_a_schema(client_for):
    pytest.importorskip("llguidance", reason="needs the extra schema")
    import openai

    client = client_for()
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    asked = {"model": "tiny", "messages": QUESTION, "max_tokens": 200}
    made = client.chat.completions.create(**asked, n=2, response_format=wanted)
    for choice in made.choices:
        found = json.loads(choice.message.content)
        assert list(found) == ["word", "count"]
        assert found["count"] in (1, 2, 3)
        assert choice.finish_reason == "stop"
    wanted["json_schema"]["schema"] = {"type": "nonsense"}
    with pytest.raises(openai.BadRequestError, match="Invalid type: nonsense"):
        client.chat.completions.create(**asked, response_format=wanted)
    wanted = {"type": "json_object"}
    begun = client.chat.completions.create(**asked | {"max_tokens": 1}, response_format=wanted)
    assert begun.choices[0].message.content == "{"
