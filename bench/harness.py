"""Time small pieces of code honestly, with the standard library only.

Import this module before NumPy: it pins the libraries that read their thread count from the
environment. A case is checked against its expected answer before it is timed; the first call,
which may compile, is reported apart; every case becomes one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "lrc-llm")

THREADS = os.environ.get("LRC_BENCH_THREADS", "1")
if "numpy" in sys.modules:
    raise ImportError("import bench's harness before NumPy, so that it can pin the threads")
os.environ.update(dict.fromkeys(_THREAD_VARIABLES, THREADS))


@dataclass(frozen=True)
class Case:
    """One thing to time.

    ``check`` gets the result of ``run`` and raises, or returns False, when it is wrong;
    ``work`` is how many units (``unit``) one call does.
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], object]
    work: float = 1.0
    unit: str = "call"
    extra: dict[str, Any] = field(default_factory=dict)


def options(description: str | None) -> argparse.Namespace:
    """Parse the options that every bench script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=0.5, help="time to spend on each case")
    parser.add_argument("--out", type=Path, help="append JSON lines here instead of printing them")
    return parser.parse_args()


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Check one case, then time it for about ``seconds``; at least five times.

    Raises
    ------
    AssertionError
        The answer is wrong: a wrong answer has no speed.
    """
    start = time.perf_counter()
    answer = case.run()
    first = time.perf_counter() - start
    if case.check(answer) is False:
        raise AssertionError(f"{case.name}: the answer is wrong, so it is not timed")
    case.run()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < deadline:
        start = time.perf_counter()
        case.run()
        times.append(time.perf_counter() - start)
    low, median, high = statistics.quantiles(times, n=4)
    return {
        "case": case.name,
        "median_seconds": median,
        "quartiles_seconds": [low, high],
        "least_seconds": min(times),
        "first_call_seconds": first,
        "repeats": len(times),
        "rate": case.work / median,
        "unit": f"{case.unit}/s",
        **case.extra,
    }


def environment() -> dict[str, Any]:
    """What the figures depend on: machine, versions, threads, commit."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "case": "environment",
        "machine": platform.machine(),
        "processor": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "processors": os.cpu_count(),
        "usable_processors": len(affinity(0)) if affinity else None,
        "threads": {name: os.environ.get(name) for name in _THREAD_VARIABLES},
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
    }


def run(cases: list[Case], seconds: float, out: Path | None) -> None:
    """Measure every case and write one JSON line for each, after a line on the environment."""
    if out is None:
        _write(cases, seconds, sys.stdout)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as stream:
        _write(cases, seconds, stream)


def append(records: Iterable[dict[str, Any]], out: Path | None) -> None:
    """Write more records where :func:`run` wrote."""
    for record in records:
        if out is None:
            print(json.dumps(record), flush=True)
        else:
            with out.open("a", encoding="utf-8") as stream:
                print(json.dumps(record), file=stream)


def _write(cases: list[Case], seconds: float, stream: TextIO) -> None:
    print(json.dumps(environment()), file=stream, flush=True)
    for case in cases:
        print(json.dumps(measure(case, seconds)), file=stream, flush=True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
