"""What a gradient costs over a forward pass: seconds a token of both, in turns.

    python bench/backward.py MODEL [--tokens 512] [--windows 2] [--rounds 5] [--profile]

MODEL is dense or compressed; gradients are those of the KL divergence at norms and gains. One JSON
line; with --profile, one more with the seconds that each kind of operation takes of a gradient.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
import numpy as np

from lrc.base.threads import single_threaded_blas
from lrc.models.opened import open_model
from lrc.parts.packed import PackedCheckpoint
from lrc.refine import rules
from lrc.refine.backward import Backward
from lrc.refine.changed import Changed
from lrc.refine.tunables import find_tunables, used
from lrc.refine.vjp import Rule


class Plain:
    """Half the sum of the squares of logits: as good as nothing beside the passes."""

    scored = slice(None)

    def __call__(self, part: int, rows: slice, logits: Any) -> tuple[float, Any]:
        """The value, and the logits."""
        return 0.5 * float(np.vdot(logits, logits)), logits


def timed(rounds: int, *works: Any) -> list[list[float]]:
    """Seconds of each work, which take turns; the first round is left out."""
    found: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 1):
        for work, times in zip(works, found, strict=True):
            start = time.perf_counter()
            work()
            if turn:
                times.append(time.perf_counter() - start)
    return found


def profiled(work: Any) -> dict[str, float]:
    """Seconds by kind of operation, backward rules and forward ones, of one call."""
    seconds: dict[str, float] = defaultdict(float)
    before = dict(rules.RULES)

    class Watched(Rule):
        def run(self, op: Any, values: Any, at: Any) -> Any:
            start = time.perf_counter()
            made = super().run(op, values, at)
            seconds[f"{type(op).__name__} forward"] += time.perf_counter() - start
            return made

    def watched(kind: type, rule: Rule) -> Rule:
        def pull(*given: Any) -> Any:
            start = time.perf_counter()
            made = rule.pull(*given)
            seconds[f"{kind.__name__} backward"] += time.perf_counter() - start
            return made

        return Watched(pull, rule.arrays, rule.wide)

    rules.RULES.update({kind: watched(kind, rule) for kind, rule in before.items()})
    start = time.perf_counter()
    try:
        work()
    finally:
        rules.RULES.update(before)
    seconds["all"] = time.perf_counter() - start
    return {name: round(s, 3) for name, s in sorted(seconds.items(), key=lambda x: -x[1])}


def main() -> None:
    """Parse, measure, print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    model, source = open_model(given.model)
    what = ("norms", "gains") if isinstance(source, PackedCheckpoint) else ("norms",)
    tunables, _ = find_tunables(model.source, what)
    programs = Changed(used(tunables, {one.key: one.value for one in tunables}))
    ids = np.random.default_rng(1).integers(0, model.vocab_size, (given.windows, given.tokens))
    parts = [window[None] for window in ids]
    passes = Backward(model, programs)
    with single_threaded_blas():
        one, two = timed(given.rounds, lambda: passes.loss(parts, Plain()),
                         lambda: passes.gradients(parts, Plain()))  # fmt: skip
        ratios = sorted(b / a for a, b in zip(one, two, strict=True))
        print(json.dumps(harness.environment()))
        print(json.dumps({
            "case": "gradient over forward pass", "model": str(given.model), "tokens": ids.size,
            "forward_seconds_per_token": statistics.median(one) / ids.size,
            "gradient_seconds_per_token": statistics.median(two) / ids.size,
            "ratio": statistics.median(ratios), "ratios": [ratios[0], ratios[-1]],
        }))  # fmt: skip
        if given.profile:
            print(json.dumps(profiled(lambda: passes.gradients(parts, Plain()))))


if __name__ == "__main__":
    main()
