"""How fast models decode and read prompts: ``lrc bench`` of several models, in turn.

    python bench/model.py DENSE COMPRESSED ... [--threads 1 2] [--rounds 3] [--blocks]
                          [--gguf FILE ... [--llama-bench PATH]] [--out FILE]

Every run is a process of its own, so that peak memory is its own; models take turns, and what
counts are the ratios to the first model, round by round. GGUF files take their turns too, by the
wheel of llama.cpp that ``llama_cpp.py`` names, or with ``--llama-bench`` by a build for this
machine. ``--blocks`` times two blocks of the shape of a 7-billion model on made-up weights instead,
and extrapolates to 32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
import llama_cpp

KEYS = ("decode_tokens_per_s", "prefill_tokens_per_s")


def lrc_bench(model: Path, threads: int, given: argparse.Namespace) -> dict[str, Any]:
    """One run of ``lrc bench``."""
    sizes = ["--prompt", str(given.prompt), "--tokens", str(given.tokens)]
    done = subprocess.run(
        [sys.executable, "-m", "lrc", "bench", str(model), *sizes, "--threads", str(threads),
         "--json", "--quiet"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def llama_bench(gguf: Path, threads: int, given: argparse.Namespace) -> dict[str, Any]:
    """One run of llama.cpp: of its benchmark, or of its wheel."""
    if given.llama_bench is None:
        return llama_cpp.measure(gguf, threads, given.prompt, given.tokens)
    done = subprocess.run(
        [str(given.llama_bench), "-m", str(gguf), "-t", str(threads), "-p", str(given.prompt),
         "-n", str(given.tokens), "-ngl", "0", "-r", "3", "-o", "json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    rates = {("prefill" if r["n_prompt"] else "decode"): r for r in json.loads(done.stdout)}
    return {f"{name}_tokens_per_s": r["avg_ts"] for name, r in rates.items()}


def compare(given: argparse.Namespace) -> list[dict[str, Any]]:
    """One record a model and number of threads, with ratios to the first model."""
    records = []
    for threads in given.threads:
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(given.rounds):
            for model in given.models:
                runs.setdefault(str(model), []).append(lrc_bench(model, threads, given))
            for gguf in given.gguf:
                runs.setdefault(str(gguf), []).append(llama_bench(gguf, threads, given))
        first = runs[str(given.models[0])]
        for name, rounds in runs.items():
            record: dict[str, Any] = {"case": name, "threads": threads}
            for key in KEYS:
                record[key] = statistics.median(r[key] for r in rounds)
                ratios = sorted(r[key] / f[key] for r, f in zip(rounds, first, strict=True))
                record[f"{key}_ratio"] = statistics.median(ratios)
                record[f"{key}_ratio_range"] = [ratios[0], ratios[-1]]
            for key in ("peak_rss_bytes", "first_token_s"):
                if key in rounds[0]:
                    record[key] = statistics.median(r[key] for r in rounds)
            records.append(record)
    return records


def seven_billion_blocks(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Two blocks shaped like Llama-2-7B with random 2-bit codes: tokens a second of 32."""
    import numpy as np
    from blocks_7b import BLOCKS, bytes_per_token, engine

    read = np.ones(1 << 26, np.uint64)
    records = []
    for threads in given.threads:
        step = engine(threads)
        times, roof = [], []
        for _ in range(20):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
            read.sum()
            roof.append(read.nbytes / (time.perf_counter() - start))
        seconds = statistics.median(times) / BLOCKS
        moved = bytes_per_token() / BLOCKS
        records.append(
            {
                "case": "blocks of a 7B model, 2 bits",
                "threads": threads,
                "seconds_per_block": seconds,
                "tokens_per_s_of_32_blocks": 1 / (32 * seconds),
                "bytes_per_token_of_32_blocks": 32 * moved,
                "share_of_dram_roof_of_one_core": moved / seconds / statistics.median(roof),
            }
        )
    return records


def main() -> None:
    """Parse, measure, write JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--gguf", nargs="*", type=Path, default=[])
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.llama_bench and not given.gguf:
        parser.error("--llama-bench needs --gguf")
    records = seven_billion_blocks(given) if given.blocks else compare(given)
    lines = [json.dumps(record) for record in (harness.environment(), *records)]
    if given.out is None:
        print("\n".join(lines))
    else:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
