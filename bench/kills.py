"""Compressions, exports and tunings that are killed at random moments, and must end alike.

    python bench/kills.py --kills 1000 --seed 0

Three ways to die: before a random change of a file, at a random instant (SIGKILL), and by a power
cut, after which what was not synced may be gone. Tests make the first 60 of such kills.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import dying
from kills import WAYS, chain, changes, jobs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="in all, shared by the jobs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", action="append", help="compress, export or tune (default: all)")
    args = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        chosen = [j for j in jobs(folder).values() if not args.job or j.name in args.job]
        for job in chosen:
            began = time.perf_counter()
            expected = job.undisturbed(folder / f"{job.name}-whole")
            seconds = time.perf_counter() - began
            steps = changes(job, folder / f"{job.name}-counted")
            died = runs = case = bad = 0
            while died < args.kills / len(chosen):
                rng = random.Random(f"{args.seed}:{job.name}:{case}")
                ways = tuple(rng.choice(WAYS) for _ in range(rng.choice((1, 2, 3))))
                root = folder / f"{job.name}-{case}"
                found, codes = chain(job, root, ways, steps, seconds, rng)
                if found != expected:
                    bad += 1
                    other = [n for n in expected | found if expected.get(n) != found.get(n)]
                    print(f"  case {case} {ways} {codes}: {', '.join(other)}", flush=True)
                died += sum(code == dying.KILLED for code in codes)
                runs, case = runs + len(codes) + 1, case + 1
                shutil.rmtree(root)
            took = time.perf_counter() - began
            each = f"{runs} runs of {seconds:.2f} s and {steps} changes"
            print(f"{job.name}: {died} kills in {each}, {bad} ended otherwise; {took:.0f} s")
            wrong += bad
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
