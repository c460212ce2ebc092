"""What a decomposition costs by codebook: processor seconds a million weights, and the error.

    python bench/encoding.py [--codebooks shuffle12 ...] [--side 2048] [--rounds 3]
    python bench/encoding.py --old DIR [--old-codebook trellis12]

One thread decomposes a Gaussian matrix whose inputs are correlated, with the other parameters at
their defaults, after a small one for what is compiled; `rounding` is the nearest codewords alone.
With ``--old``, a checkout of this library, each round runs it beside, in a process of its own, and
the ratio of the processor times is told, new / old: its median and range.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness

ROOT = Path(__file__).resolve().parents[1]
#: Run with one checkout on its path; prints seconds a million weights and the relative error.
_WORKER = """
import json, sys, time
import numpy as np
import lrc
from lrc.spec import DecomposeSpec, QuantSpec
codebook, side = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(61)
W = rng.standard_normal((side, side)).astype(np.float32)
X = rng.standard_normal((2 * side, side)) * np.exp(0.7 * rng.standard_normal(side))
X += 0.7 * X @ (rng.standard_normal((side, side)) / side**0.5)
H = X.T @ X / len(X)
found = {}
for recipe in ("caldera", "round-to-nearest"):
    spec = DecomposeSpec(recipe=recipe, quant=QuantSpec(codebook, 2))
    lrc.decompose(W[:256, :256], H[:256, :256], spec, threads=1)
    start = time.process_time()
    made = lrc.decompose(W, H, spec, threads=1)
    found[recipe] = [(time.process_time() - start) / W.size * 1e6, made.relative_error]
print(json.dumps(found))
"""
_NAMES = {"caldera": "decomposition", "round-to-nearest": "rounding"}


def run(checkout: Path, codebook: str, side: int) -> dict[str, list[float]]:
    """Seconds a million weights and error, by recipe."""
    own = {"PYTHONPATH": os.pathsep.join([str(checkout), str(checkout / "kernels")])}
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, codebook, str(side)],
        stdout=subprocess.PIPE, text=True, check=True, cwd=checkout, env=os.environ | own,
    )  # fmt: skip
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def measured(given: argparse.Namespace, codebook: str) -> list[dict[str, Any]]:
    """Records of one codebook."""
    rounds = []
    for _ in range(given.rounds):
        old = run(given.old, given.old_codebook, given.side) if given.old else None
        rounds.append((run(ROOT, codebook, given.side), old))
    records = []
    for recipe, name in _NAMES.items():
        seconds = [new[recipe][0] for new, _ in rounds]
        record = {
            "case": f"{name}, {codebook}, {given.side} x {given.side}",
            "cpu_seconds_a_million": statistics.median(seconds),
            "relative_error": rounds[0][0][recipe][1],
        }
        if given.old:
            before = [old[recipe] for _, old in rounds if old]
            ratios = sorted(a / b[0] for a, b in zip(seconds, before, strict=True))
            record |= {
                "old_cpu_seconds_a_million": statistics.median(b[0] for b in before),
                "old_relative_error": before[0][1],
                "ratio": statistics.median(ratios),
                "range": [ratios[0], ratios[-1]],
            }
        records.append(record)
    return records


def main() -> int:
    """Parse, run, write JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codebooks", nargs="+", default=["shuffle12", "shuffle10", "trellis12"])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--old", type=lambda p: Path(p).resolve())
    parser.add_argument("--old-codebook", default="trellis12")
    parser.add_argument("--out", type=Path, help="append JSON lines here")
    given = parser.parse_args()
    harness.append([harness.environment()], given.out)
    for codebook in given.codebooks:
        harness.append(measured(given, codebook), given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
