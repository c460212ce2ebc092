"""Writing calibration text: tokens a second, and how near that is to the products alone.

    python bench/self_text.py MODEL [--windows 64] [--tokens 128] [--rounds 3]

MODEL is a dense directory. In turn, in one process: a text of so many windows, and float32
products of as many columns with a matrix of 2048 x 2048, on the same threads
(LRC_BENCH_THREADS). One JSON line: tokens a second of the clock and of the processors, and
multiplications by weights in a second of the processors over those of the products.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import harness  # first: it pins the threads
import numpy as np

import lrc
from lrc.base.threads import single_threaded_blas
from lrc.calibrate.self_text import sample_batch
from lrc.models.base import Model
from lrc.models.tensors import EMBEDDING, HEAD, weight_of
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.nn.linear import DenseLinear

SIDE, REPEATS = 2048, 20


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Of the clock and of the processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def products(windows: int, threads: int) -> Callable[[], None]:
    """Some products of ``windows`` columns; the first one is checked."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((SIDE, SIDE), np.float32)
    x = rng.standard_normal((windows, SIDE), np.float32)
    linear, execution = DenseLinear(weight), Execution(Team(threads))
    expected = x[:, :8].astype(np.float64) @ weight[:4, :8].T
    found = DenseLinear(np.ascontiguousarray(weight[:4, :8]))(np.ascontiguousarray(x[:, :8]))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)

    def run() -> None:
        with single_threaded_blas():
            for _ in range(REPEATS):
                linear(x, execution)

    return run


def weights_a_token(model: Model) -> int:
    """Weights of all matrices and of the head."""
    tensors = model.tensors
    head = tensors.tables.get(HEAD, tensors.tables[EMBEDDING])
    names = [head, *(weight_of(name) for name in tensors.matrices)]
    return sum(math.prod(tensors.shape(name)) for name in names)


def main() -> None:
    """Parse, measure in turns, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    threads, model = int(harness.THREADS), lrc.load(given.model).model
    roof = products(given.windows, threads)

    def write(tokens: int = given.tokens) -> None:
        sample_batch(model, given.windows, tokens, 5, threads=threads)

    write(3)  # compiles, and reads the weights once
    roof()
    pairs = [(seconds(write), seconds(roof)) for _ in range(given.rounds)]
    chosen = given.windows * (given.tokens - 1)
    done = chosen * weights_a_token(model), given.windows * REPEATS * SIDE**2
    rates = [[done[i] / of[i][1] for of in pairs] for i in range(2)]
    wall, cpu = (statistics.median(text[i] for text, _ in pairs) for i in range(2))
    record = {
        "windows": given.windows, "tokens": given.tokens, "threads": threads,
        "tokens_a_second": round(chosen / wall, 1), "tokens_a_cpu_second": round(chosen / cpu, 1),
        "cpu_rate_over_products": round(
            statistics.median(a / b for a, b in zip(*rates, strict=True)), 3
        ),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    print(json.dumps(record))


if __name__ == "__main__":
    main()
