"""Mutations of inputs that know their structure, and what a parser may do with them.

A case is a number: its bytes follow from it, whatever the machine. A parser may accept what it is
given or refuse it by a type of `lrc.errors`, within a second and within 4 times the input's size
and 64 MiB of memory; all else is a fault.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrc.errors import LrcError

SECONDS, BYTES, TIMES = 1.0, 64 << 20, 4
#: Numbers, texts and containers that parsers are known to trip over.
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**9),
    *(10**30, 10**400, -(2**63), 0.0, 0.5, -0.5, 1e308, 1e-300, 1e999, -1e999, float("nan")),
    *(True, False, None, "", "0", "a", "..", "../x", "/etc/passwd", "\0", "\ud800", "é" * 40),
    *(
        "{{ 'a' * 10**10 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a'.center(10**10) }}",
        "{{ messages[0].x.y }}",
        "{{ 9**9**9 }}",
    ),
    *("A" * 3000, "{{", "{% for x in range(9**9) %}", [], {}, [[]], [0], [-1, 0], [1, 2, 3], ["a"]),
    *([None], {"a": 1}, {"": {}}, [[[[[[0]]]]]], [10**9, 10**9], [0, 10**12], list(range(50))),
)
WORDS = (0, 1, 2, 7, 8, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**9)
LONGS = (*WORDS, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places in a tree of JSON."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*at, key))
    elif isinstance(value, list):
        for i, item in enumerate(value[:40]):
            yield from paths(item, (*at, i))


class Tree:
    """A JSON value to be mutated; places are listed once."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self._paths = [path for path in paths(value) if path]

    def mutated(self, rng: random.Random) -> Any:
        value = copy.deepcopy(self.value)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier one took it
                self._mutate(value, rng)
        return value

    def _mutate(self, value: Any, rng: random.Random) -> None:
        *way, last = rng.choice(self._paths)
        for key in way:
            value = value[key]
        how = rng.randrange(6)
        if how == 0:
            del value[last]
        elif how == 1 and isinstance(value, dict):
            value[rng.choice(("", "x", "\ud800", str(last) + "x"))] = value.pop(last)
        elif how == 2:
            other = rng.choice(self._paths)
            found = self.value
            for key in other:
                found = found[key]
            value[last] = copy.deepcopy(found)
        elif how == 3 and isinstance(value[last], int | float):
            value[last] = rng.choice((value[last] + 1, value[last] - 1, -value[last]))
        elif how == 3 and isinstance(value[last], list):
            value[last] = value[last] * rng.choice((2, 3)) + value[last][:1]
        else:
            value[last] = copy.deepcopy(rng.choice(VALUES))


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def json_bytes(tree: Tree, rng: random.Random) -> bytes:
    """A mutated tree, now and then nested without end, or broken as text."""
    how = rng.randrange(20)
    if how == 0:
        depth = rng.choice((50, 1000, 100_000))
        return rng.choice((b"[", b'{"a":')) * depth
    if how == 1:
        return raw(dumped(tree.value), rng)
    if how == 2:
        key, item = rng.choice(list(tree.value.items()))
        again = dumped({key: rng.choice(VALUES)})[1:-1]
        return b"{" + again + b"," + dumped({key: item})[1:-1] + b"," + dumped(tree.value)[1:]
    return dumped(tree.mutated(rng))


def raw(content: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, grown, repeated bytes, and numbers put over others."""
    work = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(work) + 1)
        how = rng.randrange(6)
        if how == 0 and at < len(work):
            work[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del work[at:]
        elif how == 2:
            work[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
        elif how == 3:
            work[at : at + 4] = struct.pack("<I", rng.choice(WORDS))
        elif how == 4:
            work[at : at + 8] = struct.pack("<Q", rng.choice(LONGS))
        else:
            del work[at : at + rng.choice((1, 8, 64))]
    return bytes(work)


@dataclass(frozen=True)
class Format:
    """A kind of input: what a case of it is, and who reads it."""

    name: str
    make: Callable[[random.Random], bytes]
    read: Callable[[bytes], object]
    #: Of an input that is in order.
    valid: bytes


@dataclass(frozen=True)
class Fault:
    """What a parser may not do."""

    format: str
    case: int
    what: str


class TooLongError(BaseException):
    """Raised by the clock; no parser may catch it."""


def _alarm(*_: object) -> None:
    raise TooLongError


class Memory:
    """Growth of the resident memory, by the operating system's count; None where it has none."""

    def __init__(self) -> None:
        self._before = 0

    def begin(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = self._resident("VmRSS") or 0

    def grown(self) -> int:
        return max((self._resident("VmHWM") or 0) - self._before, 0)

    @staticmethod
    def _resident(which: str) -> int | None:
        try:
            text = Path("/proc/self/status").read_text()
        except OSError:
            return None
        return 1024 * int(text.split(f"{which}:")[1].split(None, 1)[0])


def try_case(form: Format, case: int, memory: Memory | None = None) -> Fault | None:
    """One input through its parser; what is wrong with that, if anything."""
    content = form.make(random.Random(f"{form.name}:{case}"))
    memory = memory or Memory()
    what = None
    memory.begin()
    before = signal.signal(signal.SIGVTALRM, _alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * SECONDS)
    began = time.process_time()
    try:
        with warnings.catch_warnings(), np.errstate(all="warn"):
            warnings.simplefilter("error")
            form.read(content)
    except LrcError as error:
        if "\n" in str(error).strip() or not str(error):
            what = f"{type(error).__name__} is not one line: {str(error)[:200]!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if "/lrc" in f.filename]
        place = own[-1] if own else last
        what = f"{type(error).__name__} at {place.filename}:{place.lineno}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    took, grown = time.process_time() - began, memory.grown()
    if what is None and took > SECONDS:
        what = f"took {took:.1f} s"
    if what is None and grown > TIMES * len(content) + BYTES:
        what = f"took {grown / 2**20:.0f} MiB for {len(content)} bytes"
    return None if what is None else Fault(form.name, case, what)
