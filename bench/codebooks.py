"""Whole models that differ in the codebook alone: tokens and prompts, in turn in one process.

    python bench/codebooks.py CONFIG [--codebooks trellis12:2 shuffle12:2] [--prompts 128 512]
                              [--threads 1] [--rounds 5] [--layers N] [--out FILE]

``CONFIG`` is the `config.json` of a Llama; codes and scales are random, which no kernel minds. What
counts is the median of the ratios to the first codebook, round by round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

#: Tokens that are decoded in a round, behind a prompt of as many.
TOKENS = 16


def models(given: argparse.Namespace) -> dict[str, Any]:
    """One model a codebook."""
    from packed_models import packed_model

    config = json.loads(given.config.read_text())
    config["num_hidden_layers"] = given.layers or config["num_hidden_layers"]
    names = [name.partition(":") for name in given.codebooks]
    return {
        ":".join((name, bits)): packed_model(config, codebook=(name, int(bits)), rank=0)
        for name, _, bits in names
    }


def seconds(model: Any, prompt: int, threads: int) -> float:
    """A prompt of so many tokens; with 0, a token behind a short one."""
    from lrc.run.generate import Decoder

    ids = np.random.default_rng(1).integers(0, model.vocab_size, prompt or 2 * TOKENS)
    decoder = Decoder(model, len(ids), threads, "i8")
    if prompt:
        start = time.perf_counter()
        decoder.advance(ids)
        return time.perf_counter() - start
    decoder.advance(ids[:TOKENS])
    taken = []
    for i in range(TOKENS, 2 * TOKENS):
        start = time.perf_counter()
        decoder.advance(ids[i : i + 1])
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def compare(given: argparse.Namespace) -> list[dict[str, Any]]:
    """One record a codebook, length of prompt (0: single tokens) and number of threads."""
    made, records = models(given), []
    for threads in given.threads:
        for prompt in (0, *given.prompts):
            times: dict[str, list[float]] = {name: [] for name in made}
            for i in range(given.rounds + 1):
                for name, model in made.items():
                    taken = seconds(model, prompt, threads)
                    if i:  # the first one compiles
                        times[name].append(taken)
            first = times[next(iter(made))]
            for name, own in times.items():
                ratios = sorted(a / b for a, b in zip(first, own, strict=True))
                records.append({
                    "case": name, "prompt": prompt, "threads": threads,
                    "tokens_per_s": (prompt or 1) / statistics.median(own),
                    "ratio": statistics.median(ratios), "ratio_range": [ratios[0], ratios[-1]],
                })  # fmt: skip
                print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    return records


def main() -> None:
    """Parse, measure, write JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--codebooks", nargs="+", default=["trellis12:2", "shuffle12:2"])
    parser.add_argument("--prompts", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    harness.append([harness.environment(), *compare(given)], given.out)


if __name__ == "__main__":
    main()
