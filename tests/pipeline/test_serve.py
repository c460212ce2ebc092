"""``lrc serve`` as a process: a socket on this machine, the official client, Ctrl-C."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

needs_extra = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn")),
    reason="needs the extra serve",
)
no_signals = pytest.mark.skipif(os.name == "nt", reason="signals are others there")
ENDLESS = {"max_tokens": 450, "stream": True, "logit_bias": {"257": -100}}

Lrc = Callable[..., Any]


@contextlib.contextmanager
def serving(model: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process, and the port that it listens on."""
    command = [sys.executable, "-m", "lrc", "serve", str(model), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "/v1;" in line, line + (process.stderr.read() if process.stderr else "")
        yield process, int(line.partition("127.0.0.1:")[2].partition("/")[0])
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def answering(port: int) -> Iterator[HTTPConnection]:
    """A connection to a server that answers by now."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        for _ in range(100):
            with contextlib.suppress(OSError):
                connection.request("GET", "/health")
                assert connection.getresponse().read()
                break
            connection.close()
            time.sleep(0.05)
        yield connection


def post(connection: HTTPConnection, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    return connection.getresponse()


@needs_extra
@no_signals
def test_an_interrupt_ends_texts_and_the_process_in_peace(packed: Path) -> None:
    with serving(packed) as (process, port):
        with contextlib.ExitStack() as opened:
            # So many that not all of them are done when the signal comes.
            responses = [
                post(opened.enter_context(answering(port)), "/v1/completions", ENDLESS | asked)
                for asked in [{"prompt": "The"}] * 12
            ]
            assert b"data:" in responses[0].readline()
            process.send_signal(signal.SIGINT)
            rest = [response.read() for response in responses]
        out, err = process.communicate(timeout=60)
    assert any(b"being shut down" in one for one in rest)
    assert out.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
    assert process.returncode == 0


@needs_extra
def test_a_client_that_is_gone_leaves_its_place_to_others(packed: Path) -> None:
    with serving(packed, "--streams", "1", "--name", "mine") as (_, port):
        with answering(port) as left:
            post(left, "/v1/completions", {"prompt": "The", **ENDLESS}).readline()
        body = {"prompt": "The", "max_tokens": 2, "seed": 1}
        with answering(port) as connection:
            answer = json.loads(post(connection, "/v1/completions", body).read())
    assert answer["model"] == "mine"
    assert answer["usage"]["completion_tokens"] == 2


@needs_extra
def test_the_official_client_is_served(packed: Path) -> None:
    openai = pytest.importorskip("openai")
    messages: Any = [{"role": "user", "content": "Why?"}]
    options: Any = {"model": "any", "messages": messages, "seed": 5, "max_tokens": 9}
    with serving(packed, "--api-key", "sesame") as (_, port), contextlib.ExitStack() as opened:
        with answering(port):
            pass
        url = f"http://127.0.0.1:{port}/v1"
        client = opened.enter_context(openai.OpenAI(base_url=url, api_key="sesame", max_retries=0))
        assert [model.id for model in client.models.list()] == [packed.name]
        whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=3)
        (choice,) = whole.choices
        assert len(choice.logprobs.content) == whole.usage.completion_tokens == 9
        assert all(len(one.top_logprobs) == 3 for one in choice.logprobs.content)
        usage = {"include_usage": True}
        chunks = list(client.chat.completions.create(**options, stream=True, stream_options=usage))
        told = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(told) == choice.message.content
        assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
        scored = client.completions.create(
            model="any", prompt=["The quick", [65, 66]], echo=True, logprobs=2, max_tokens=1
        )
        assert scored.choices[0].logprobs.token_logprobs[0] is None
        assert scored.choices[1].logprobs.tokens[:2] == ["b", "c"]
        with pytest.raises(openai.BadRequestError, match="must be at least 0"):
            client.chat.completions.create(**options, temperature=-1)
        stranger = opened.enter_context(openai.OpenAI(base_url=url, api_key="no", max_retries=0))
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            stranger.models.list()


@needs_extra
def test_many_clients_and_some_that_die_starve_nobody(packed: Path) -> None:
    lengths: dict[int, int] = {}

    def client(number: int, port: int) -> None:
        with answering(port) as connection:
            body = {**ENDLESS, "prompt": f"{number} The quick", "max_tokens": 20}
            response = post(connection, "/v1/completions", body)
            if number % 8 == 3:  # dies in mid-stream
                response.readline()
                response.close()
            else:
                lengths[number] = response.read().count(b"data: {")

    with serving(packed, "--streams", "4") as (process, port):
        with answering(port):
            pass
        threads = [threading.Thread(target=client, args=(i, port)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert process.poll() is None
    assert sorted(lengths) == [i for i in range(16) if i % 8 != 3]
    assert min(lengths.values()) > 5


@needs_extra
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "99999"), "--port 99999 must be from 0 to 65535"),
        (("--streams", "0"), "streams=0 must be at least 1"),
        (("--context", "-1"), "context=-1 must be at least 0"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    lrc: Lrc, model: Path, options: tuple[str, ...], words: str
) -> None:
    outcome = lrc("serve", model, *options)
    assert outcome.code == 1
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


@needs_extra
def test_a_port_in_use_is_one_line(lrc: Lrc, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = lrc("serve", model, "--port", port)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "give another --port" in outcome.err


def test_a_missing_extra_is_named(lrc: Lrc, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = lrc("serve", model)
    assert outcome.code == 1
    assert "pip install 'lrc-llm[serve]'" in outcome.err
