"""The prompt of ``lrc generate`` from bytes that are no UTF-8, and from standard input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Lrc = Callable[..., Any]
OPTIONS = ("--max-tokens", 8, "--temp", 0, "--quiet")


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))


@pytest.mark.parametrize(
    ("content", "same_as"),
    [
        (b"The quick\n", "The quick"),
        (b"The quick\r\n", "The quick"),
        (b"The quick\n\n", "The quick\n"),
        (b"\xef\xbb\xbfThe quick", "The quick"),
        ("naïve 猫".encode(), "naïve 猫"),
        (b"a\xff\xfeb", "a\ufffd\ufffdb"),
    ],
)
def test_standard_input_is_the_prompt(
    lrc: Lrc, model: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, same_as: str
) -> None:
    expected = lrc("generate", model, "-p", same_as, *OPTIONS, "--json").check().json
    typed(monkeypatch, content)
    found = lrc("generate", model, "-p", "-", *OPTIONS, "--json").check().json
    for key in ("text", "prompt_tokens"):
        assert found[key] == expected[key]


def test_a_question_may_come_from_standard_input(
    lrc: Lrc, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lrc("generate", model, "--chat", "-p", "Why?", *OPTIONS).check().out
    typed(monkeypatch, b"\xef\xbb\xbfWhy?\n")
    assert lrc("generate", model, "--chat", "-p", "-", *OPTIONS).check().out == expected


def test_without_standard_input_it_says_so(
    lrc: Lrc, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    outcome = lrc("generate", model, "-p", "-", *OPTIONS)
    assert outcome.code == 1
    assert "no standard input" in outcome.err


def test_a_byte_order_mark_in_an_argument_is_dropped(lrc: Lrc, model: Path) -> None:
    plain = lrc("generate", model, "-p", "Why?", *OPTIONS).check().out
    assert lrc("generate", model, "-p", "\ufeffWhy?", *OPTIONS).check().out == plain


@pytest.mark.skipif(os.name == "nt", reason="arguments are UTF-16 there")
@pytest.mark.parametrize("chat", [(), ("--chat",)])
def test_arguments_that_are_no_utf8_are_replaced(
    lrc: Lrc, model: Path, chat: tuple[str, ...]
) -> None:
    expected = lrc("generate", model, *chat, "-p", "a\ufffd", *OPTIONS).check().out
    command = [sys.executable, "-m", "lrc", "generate", model, *chat, "-p", b"a\xff"]
    done = subprocess.run([*command, *map(str, OPTIONS)], capture_output=True, check=True)
    assert done.stdout.decode().replace("\r\n", "\n") == expected
