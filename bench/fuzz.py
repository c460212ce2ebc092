"""Mutated inputs of every kind through their parsers: only typed errors, no hang, little memory.

    python bench/fuzz.py --cases 1000000 --seed 0

Tests run the first of these cases. Faults are listed with the number that makes each again:
    python bench/fuzz.py --format packed --case 1234
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hostile import Fault, Memory, try_case
from hostile_formats import formats

#: Kinds of input that take several milliseconds: they get a quarter of what others get.
SLOW = {"config", "packed", "tokenizer", "gguf", "peft adapters", "gguf adapters"}


def counts(names: list[str], cases: int) -> dict[str, int]:
    """How many of all cases each format gets."""
    shares = {name: 1 if name in SLOW else 4 for name in names}
    return {name: -(-cases * share // sum(shares.values())) for name, share in shares.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000_000, help="in all")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--format", action="append", help="only this one (may be repeated)")
    parser.add_argument("--case", type=int, help="one case, whose error is raised")
    parser.add_argument("--most", type=int, default=200, help="faults after which to stop")
    args = parser.parse_args()
    home = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=home) as folder:
        chosen = [f for f in formats(Path(folder)) if not args.format or f.name in args.format]
        if args.case is not None:
            for form in chosen:
                print(form.name, try_case(form, args.case))
            return 0
        faults: list[Fault] = []
        shared = counts([form.name for form in chosen], args.cases)
        for form in chosen:
            began, memory = time.perf_counter(), Memory()
            each = shared[form.name]
            found = []
            form.read(form.valid)  # what is loaded or compiled once is nobody's memory
            for case in range(args.first, args.first + each):
                if fault := try_case(form, case, memory):
                    found.append(fault)
                    if len(found) >= args.most:
                        break
            took = time.perf_counter() - began
            print(f"{form.name}: {each} cases, {len(found)} faults, {took:.0f} s", flush=True)
            for what, count in Counter(f.what for f in found).most_common(12):
                first = next(f.case for f in found if f.what == what)
                print(f"  {count} x (first: case {first}) {what}", flush=True)
            faults += found
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
