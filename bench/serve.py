"""A server under load: first bytes, tokens a second of one text and of several, clients that die.

    python bench/serve.py MODEL [--streams 8] [--clients 32] [--tokens 64] [--rounds 5]
                          [--threads 1] [--cases speeds first crowd] [--out FILE]

All in one process, over a socket of this machine: A and B take turns, and the ratio's median is the
figure; that of processor seconds is the same on a busy machine, and counts the clients, too. Needs
the extra `serve`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import harness  # first: it pins the threads

#: About a page, so that reading it counts.
PROMPT = "The matrix is nearly of low rank, and what sticks out is rounded. " * 12
QUESTION = [{"role": "user", "content": "Why is the sky blue? " + PROMPT}]
ENDLESS = {"stream": True, "seed": 1, "temperature": 0}


@contextlib.contextmanager
def serving(loaded: Any, given: argparse.Namespace) -> Iterator[int]:
    """The port of a server in a thread of this process."""
    import uvicorn

    from lrc.run.server.http import Application
    from lrc.run.server.listen import open_socket
    from lrc.run.server.options import ServeOptions
    from lrc.run.server.scheduler import Scheduler

    options = ServeOptions(streams=given.streams, context=1024)
    scheduler = Scheduler(loaded, options, threads=given.threads)
    app = Application(loaded, scheduler, options, "model").asgi()
    own = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
    thread.start()
    try:
        yield own.getsockname()[1]
    finally:
        scheduler.stop()
        server.should_exit = True
        thread.join()


class Stamp(NamedTuple):
    """Seconds since the request, and processor seconds of this process."""

    wall: float
    processor: float


def stream(port: int, body: dict[str, Any], most: int | None = None) -> list[Stamp]:
    """When each piece of text came; goes away after ``most``."""
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    stamps, start = [], time.perf_counter()
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        content = json.dumps({**ENDLESS, **body})
        connection.request("POST", path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        while line := response.readline():
            if b"error" in line[:20]:
                raise RuntimeError(line.decode())
            if line.startswith(b"data: {") and b'"finish_reason": null' in line:
                stamps.append(Stamp(time.perf_counter() - start, time.process_time()))
                if most is not None and len(stamps) == most:
                    response.close()
                    break
    return stamps


def at_once(port: int, bodies: list[dict[str, Any]], dying: int = -1) -> list[list[Stamp]]:
    """`stream` of all bodies at the same time; number ``dying`` goes away after three pieces."""
    found: list[list[Stamp]] = [[] for _ in bodies]

    def one(i: int) -> None:
        found[i] = stream(port, bodies[i], 3 if i == dying else None)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def body(number: int, tokens: int) -> dict[str, Any]:
    """A text that goes on for so many tokens, and says so of each."""
    return {
        "prompt": f"{number} apples and {number + 1} pears", "max_tokens": tokens, "logprobs": 0,
        "logit_bias": {"2": -100}, "seed": number,
    }  # fmt: skip


def seconds(port: int, count: int, tokens: int) -> Stamp:
    """Seconds a token of so many texts, between the first token of the last and the first end."""
    found = at_once(port, [body(i, tokens) for i in range(count)])
    begin, end = max(stamps[0] for stamps in found), min(stamps[-1] for stamps in found)
    made = sum(sum(begin < stamp <= end for stamp in stamps) for stamps in found)
    return Stamp((end.wall - begin.wall) / made, (end.processor - begin.processor) / made)


def speeds(loaded: Any, port: int, given: argparse.Namespace) -> dict[str, Any]:
    """One text, and as many as there are streams, in turn."""
    pairs = []
    for i in range(given.rounds + 1):
        pair = seconds(port, 1, given.tokens), seconds(port, given.streams, given.tokens)
        if i:  # the first one compiles
            pairs.append(pair)
    ratios = [sorted(one[k] / many[k] for one, many in pairs) for k in range(2)]
    return {
        "case": "tokens_per_s", "streams": given.streams,
        "one": 1 / statistics.median(one.wall for one, _ in pairs),
        "all": 1 / statistics.median(many.wall for _, many in pairs),
        "ratio": statistics.median(ratios[0]), "ratio_range": [ratios[0][0], ratios[0][-1]],
        "processor_ratio": statistics.median(ratios[1]),
        "processor_ratio_range": [ratios[1][0], ratios[1][-1]],
    }  # fmt: skip


def first_bytes(loaded: Any, port: int, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds to the first text of an answer, by the server and by `generate`, in turn."""
    served, plain = [], []
    for i in range(given.rounds + 2):
        # Another beginning each time, so that nothing is known of it.
        messages = [{"role": "user", "content": f"{i} {QUESTION[0]['content']}"}]
        stamps = stream(port, {"messages": messages, "max_tokens": 4}, 2)
        start = time.perf_counter()
        next(loaded.generate(messages, 4, threads=given.threads))
        if (
            i > 1
        ):  # prompts are compiled in the first round, and steps, which end it, beside the second
            served.append(stamps[1].wall)  # the first is the role
            plain.append(time.perf_counter() - start)
    ratios = sorted(a / b for a, b in zip(served, plain, strict=True))
    return {
        "case": "first_text_s", "served": statistics.median(served),
        "generate": statistics.median(plain), "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
    }  # fmt: skip


def crowd(loaded: Any, port: int, given: argparse.Namespace) -> dict[str, Any]:
    """Many clients, one of which dies in mid-stream; the longest that any waits for a token."""
    from lrc.base.resources import peak_rss_bytes

    before = peak_rss_bytes()
    start = time.perf_counter()
    found = at_once(port, [body(i, given.tokens) for i in range(given.clients)], dying=5)
    seconds = time.perf_counter() - start
    others = [stamps for i, stamps in enumerate(found) if i != 5]
    if any(len(stamps) < given.tokens for stamps in others):
        raise AssertionError(f"some got less than all: {[len(stamps) for stamps in others]}")
    gaps = [b.wall - a.wall for stamps in others for a, b in itertools.pairwise(stamps)]
    return {
        "case": "crowd", "clients": given.clients, "seconds": seconds,
        "tokens_per_s": sum(map(len, found)) / seconds,
        "first_token_s": [min(s[0].wall for s in others), max(s[0].wall for s in others)],
        "gap_median_s": statistics.median(gaps), "gap_longest_s": max(gaps),
        "peak_rss_before": before, "peak_rss": peak_rss_bytes(),
    }  # fmt: skip


CASES = {"speeds": speeds, "first": first_bytes, "crowd": crowd}


def main() -> None:
    """Parse, measure, write JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    import lrc

    loaded = lrc.load(given.model)
    records = [harness.environment()]
    with serving(loaded, given) as port:
        for case in given.cases:
            record = CASES[case](loaded, port, given)
            print(json.dumps(record), file=sys.stderr, flush=True)
            records.append(record)
    harness.append(records, given.out)


if __name__ == "__main__":
    main()
