"""``lrc bench`` on tiny models, dense and compressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Lrc = Callable[..., Any]

KEYS = {"decode_tokens_per_s", "prefill_tokens_per_s", "first_token_s", "peak_rss_bytes"}
SHORT = ("--prompt", "8", "--tokens", "10", "--threads", "1")


@pytest.mark.parametrize("kind", ["model", "packed"])
def test_json_has_rates_with_their_spread(
    kind: str, lrc: Lrc, request: pytest.FixtureRequest
) -> None:
    record = lrc("bench", request.getfixturevalue(kind), *SHORT, "--json").check().json
    assert set(record) >= KEYS
    assert record["activations"] == ("i8" if kind == "packed" else "f32")
    for name in ("decode_tokens_per_s", "prefill_tokens_per_s"):
        low, high = record[f"{name}_spread"]
        assert 0 < low <= record[name] <= high


def test_table(lrc: Lrc, model: Path) -> None:
    lines = lrc("bench", model, *SHORT).check().out.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["decode", "prefill"]


@pytest.mark.parametrize("option", ["--prompt", "--tokens", "--repeats"])
def test_nothing_to_measure_is_refused(option: str, lrc: Lrc, model: Path) -> None:
    outcome = lrc("bench", model, option, "0")
    assert outcome.code == 1
    assert option in outcome.err


def test_text_does_not_depend_on_threads_or_path(lrc: Lrc, packed: Path) -> None:
    def text(prompt: str, *more: str) -> Any:
        options = ("--max-tokens", "6", "--temp", "0", *more)
        return lrc("generate", packed, "-p", prompt, *options).check().out

    for prompt in ("a b", "one two three"):
        assert text(prompt, "--threads", "1") == text(prompt, "--threads", "3")
    # A prompt after which no two tokens are nearly as likely: integers round.
    assert text("one two three") == text("one two three", "--activations", "f32")
