"""20,000 mutated inputs: typed errors only, no hang, little memory; `bench/fuzz.py` tries more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import hostile
import numpy as np
import pytest
from hostile import Fault, Format, Memory, try_case
from hostile_formats import formats
from memory_folder import memory_folder

from lrc.errors import FormatError

#: Cases of each kind of input; fewer where they take long.
COUNTS = {
    "safetensors": 4500, "index": 1000, "config": 300, "families": 1800, "packed": 350,
    "tokenizer": 500, "spec": 1700, "journal": 2500, "texts": 2000, "wav": 1550, "gguf": 200,
    "requests": 500, "imatrix": 600, "utterances": 500, "front ends": 500, "figures": 500,
    "hub names": 500, "peft adapters": 300, "gguf adapters": 200,
}  # fmt: skip
COUNT = 20_000

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts by /proc")


@pytest.fixture(scope="module")
def known() -> Iterator[dict[str, Format]]:
    with memory_folder() as folder:
        yield {form.name: form for form in formats(folder)}


def test_so_many_cases_of_every_format(known: dict[str, Format]) -> None:
    assert sum(COUNTS.values()) == COUNT
    assert COUNTS.keys() == known.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_no_mutated_input_does_harm(known: dict[str, Format], name: str) -> None:
    form, memory = known[name], Memory()
    form.read(form.valid)
    with np.errstate(all="warn"):
        found = (try_case(form, case, memory) for case in range(COUNTS[name]))
        assert [fault for fault in found if fault] == []


def harmful(read: object) -> Fault | None:
    def make(rng: random.Random) -> bytes:
        return rng.randbytes(3)

    return try_case(Format("x", make, read, b""), 5)  # type: ignore[arg-type]


def test_the_harness_finds_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "SECONDS", 0.5)

    def wrong(_: bytes) -> None:
        raise KeyError("a")

    def lines(_: bytes) -> None:
        raise FormatError("a\nb")

    def typed(_: bytes) -> None:
        raise FormatError("a")

    def endless(_: bytes) -> None:
        while True:
            pass

    def large(_: bytes) -> None:
        np.ones(12_000_000)

    def warns(_: bytes) -> None:
        np.float32(1) / np.float32(0)

    assert harmful(typed) is None
    assert harmful(lambda _: None) is None
    for read, said in (
        (wrong, "KeyError"), (lines, "not one line"), (endless, "TooLongError"),
        (large, "MiB for 3 bytes"), (warns, "RuntimeWarning"),
    ):  # fmt: skip
        fault = harmful(read)
        assert fault is not None
        assert said in fault.what


def test_cases_are_the_same_each_time(known: dict[str, Format]) -> None:
    for form in known.values():
        first, second = (form.make(random.Random(f"{form.name}:7")) for _ in range(2))
        assert first == second
    assert len(hostile.VALUES) > 50
