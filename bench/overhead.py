"""What durability and the self-test cost: a compression with and without them, in turns.

    python bench/overhead.py MODEL [--pairs 3] [--work DIR] -- [options of lrc compress]

Without: no sync, nothing read back, no checksum of a file, no self-test; what is written is the
same but for its checksums and figures of the test. Each pair runs both in one process, the order
turned from pair to pair; the first run, which compiles, is left out. In runs with them each is
timed as well: `share` is what they take of the run, and is steadier than the ratio of two runs.
One JSON line a pair, then the medians.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness

from lrc.cli.main import main as lrc
from lrc.formats import side_files
from lrc.formats.safetensors import checkpoint, writing
from lrc.measure.self_test import SelfTest
from lrc.pipeline import block_files, compress

#: Names that a part goes by, and where what it calls is looked up.
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "sync": ((os, "fsync"),),
    "read back": ((block_files, "check_written"),),
    "self-test": ((compress, "self_test"),),
    "checksums": tuple((module, "hashlib") for module in (side_files, checkpoint, writing)),
}


class _Digest:
    """In the place of a SHA-256: nothing is computed."""

    def update(self, content: Any) -> None:
        pass

    def digest(self) -> bytes:
        return bytes(32)

    def hexdigest(self) -> str:
        return bytes(32).hex()


class _TimedDigest:
    """A SHA-256 whose time is added up."""

    def __init__(
        self, real: Any, timed: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        self.update, self.digest, self.hexdigest = timed(real.update), real.digest, real.hexdigest


def _nothing(*_: object) -> None:
    pass


def _no_test(*_: object) -> SelfTest:
    return SelfTest(1, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)


@contextlib.contextmanager
def _patched(choose: Callable[[str, Any], Any]) -> Iterator[None]:
    kept = [(of, name, getattr(of, name)) for places in PARTS.values() for of, name in places]
    for part, places in PARTS.items():
        for of, name in places:
            setattr(of, name, choose(part, getattr(of, name)))
    try:
        yield
    finally:
        for of, name, real in kept:
            setattr(of, name, real)


def _left_out(part: str, real: Any) -> Any:
    if part == "checksums":
        return types.SimpleNamespace(sha256=lambda *_: _Digest(), file_digest=lambda *_: _Digest())
    return _no_test if part == "self-test" else _nothing


def _timing(seconds: dict[str, float]) -> Callable[[str, Any], Any]:
    def choose(part: str, real: Any) -> Any:
        def timed(call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any) -> Any:
                start = time.perf_counter()
                try:
                    return call(*arguments)
                finally:
                    seconds[part] += time.perf_counter() - start

            return run

        if part != "checksums":
            return timed(real)
        return types.SimpleNamespace(
            sha256=lambda *start: _TimedDigest(real.sha256(*start), timed),
            file_digest=timed(real.file_digest),
        )

    return choose


def run(model: Path, work: Path, options: list[str], *, durable: bool) -> dict[str, Any]:
    """Seconds of one compression, and of its parts where there are any.

    Raises
    ------
    RuntimeError
        It failed.
    """
    seconds = dict.fromkeys(PARTS, 0.0)
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    with _patched(_timing(seconds) if durable else _left_out):
        start, cpu = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            code = lrc(["compress", str(model), "-o", str(out), "--quiet", *options])
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
    if code != 0:
        raise RuntimeError(f"lrc compress ended with {code}")
    found: dict[str, Any] = {"seconds": took, "processor_seconds": cpu}
    if durable:
        found |= {"parts": seconds, "share": sum(seconds.values()) / took}
    return found


def main() -> None:
    """Run all pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--work", type=Path, help="on the disk that is meant (default: temporary)")
    given = sys.argv[1:]
    behind = given.index("--") if "--" in given else len(given)  # of lrc compress
    args, options = parser.parse_args(given[:behind]), given[behind + 1 :]
    options = options if "--threads" in options else [*options, "--threads", "1"]
    print(json.dumps({"machine": harness.environment(), "options": options}))
    shares, ratios = [], []
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        work = Path(folder)
        run(args.model, work, options, durable=True)
        for pair in range(args.pairs):
            order = (True, False) if pair % 2 == 0 else (False, True)
            found = {durable: run(args.model, work, options, durable=durable) for durable in order}
            ratio = found[True]["processor_seconds"] / found[False]["processor_seconds"]
            shares.append(found[True]["share"])
            ratios.append(ratio)
            record = {"with": found[True], "without": found[False], "processor_ratio": ratio}
            print(json.dumps(record), flush=True)
    medians = {"share": statistics.median(shares), "processor_ratio": statistics.median(ratios)}
    print(json.dumps({"pairs": args.pairs, "median": medians}))


if __name__ == "__main__":
    main()
