"""``lrc chat`` on lines from standard input, which stand for a terminal."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrc.cli.main import StandardConsole

Lrc = Callable[..., Any]
OPTIONS = ("--max-tokens", 5, "--temp", 1, "--seed", 5, "--logit-bias", "257:-100", "--threads", 1)


@pytest.fixture
def chat(lrc: Lrc, model: Path, monkeypatch: pytest.MonkeyPatch) -> Lrc:
    """Run a conversation of some lines."""

    def run(*lines: str, options: tuple[object, ...] = OPTIONS, path: Path = model) -> Any:
        text = "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), "utf-8"))
        return lrc("chat", path, *options)

    return run


def saved(path: Path) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in json.loads(path.read_text("utf-8"))]


def test_questions_are_answered_until_the_input_ends(chat: Lrc, tmp_path: Path) -> None:
    file = tmp_path / "said.json"
    outcome = chat("Why?", "", "How \\", "so?", f"/save {file}").check()
    (_, why), (_, first), (_, how), (_, second) = saved(file)
    assert (why, how) == ("Why?", "How \nso?")
    assert outcome.out == f"{first}\n{second}\n"


def test_commands_do_what_they_say(chat: Lrc, tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    saves = [f"/save {file}" for file in files]
    chat("Why?", "/retry", saves[0], "/reset", saves[1], "/system Rhyme.", "How?", saves[2]).check()
    roles = [[role for role, _ in saved(file)] for file in files]
    assert roles == [["user", "assistant"], [], ["system", "user", "assistant"]]
    assert saved(files[2])[:2] == [("system", "Rhyme."), ("user", "How?")]
    assert "/retry" in chat("/help").check().out


@pytest.mark.parametrize("word", ["/quit", "/exit", "/bye"])
def test_it_ends_where_it_is_told_to(chat: Lrc, word: str) -> None:
    assert chat(word, "Why?").check().out == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/nothing", "/nothing is no command"),
        ("/save", "lacks what it needs"),
        ("/retry", "no question to answer again"),
        ("/save /no/such/folder/x", "/no/such/folder"),
        ("a" * 600, "leave no room in the context of 512"),
    ],
)
def test_errors_are_one_line_and_end_nothing(chat: Lrc, line: str, words: str) -> None:
    outcome = chat(line, "Why?").check()
    (error,) = [said for said in outcome.err.splitlines() if said.startswith("error: ")]
    assert words in error
    assert len(outcome.out.splitlines()) >= 1


def test_an_interrupt_stops_an_answer_and_keeps_the_conversation(
    chat: Lrc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, pieces = StandardConsole.stream, []

    def stream(self: StandardConsole, text: str) -> None:
        pieces.append(text)
        original(self, text)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(StandardConsole, "stream", stream)
    file = tmp_path / "said.json"
    outcome = chat("Why?", "How?", f"/save {file}").check()
    (_, _), (_, first), (_, _), (_, second) = saved(file)
    assert first == "".join(pieces[:2])
    assert outcome.out == f"{first} ...\n{second}\n"


def test_an_interrupt_of_a_line_drops_it(
    chat: Lrc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = StandardConsole.read, []

    def read(self: StandardConsole, prompt: str) -> str:
        calls.append(prompt)
        line = original(self, prompt)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr(StandardConsole, "read", read)
    file = tmp_path / "said.json"
    chat("Why \\", "dropped", "How?", f"/save {file}").check()
    assert saved(file)[0] == ("user", "How?")
    assert calls[:3] == ["> ", "... ", "> "]


def test_bytes_that_are_no_utf8_are_replaced(chat: Lrc, tmp_path: Path) -> None:
    file = tmp_path / "said.json"
    chat("a\udcff", f"/save {file}").check()
    assert saved(file)[0] == ("user", "a\ufffd")


def test_a_model_without_a_template_is_one_line(chat: Lrc, model: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(model, tmp_path / "bare")
    settings = bare / "tokenizer_config.json"
    known = json.loads(settings.read_text())
    del known["chat_template"]
    settings.write_text(json.dumps(known))
    outcome = chat("Why?", path=bare)
    assert outcome.code == 1
    assert "use lrc generate" in outcome.err
