"""Two checkouts of this library side by side: the same bytes, and the same speed.

    python bench/versions.py OLD [--new DIR] [--model DIR] [--packed DIR --rounds 5] [--out FILE]

``OLD`` and ``--new`` (this checkout) are directories with ``lrc`` and ``kernels``. Small models are
compressed by both with every setting of :data:`CASES` and the same windows of tokens, and every
tensor, decoded, must be equal bit for bit; so must those of ``--model``, a dense model directory,
with the default settings. With ``--packed``, a compressed model, both decode and read prompts in
turn, one process a run: what counts is the median of the ratios new / old, round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

SEVERAL: dict[str, Any] = {"num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 176}
#: Name: (configuration of the model, parameters of the compression).
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": (SEVERAL, {}),
    "shuffle12 3": (SEVERAL, {"quant": {"codebook": "shuffle12", "bits": 3}}),
    "shuffle12 4": (SEVERAL, {"quant": {"codebook": "shuffle12", "bits": 4}}),
    "trellis12 2": (SEVERAL, {"quant": {"codebook": "trellis12"}}),
    "trellis8 2": (SEVERAL, {"quant": {"codebook": "trellis8"}}),
    "e8p": ({}, {"quant": {"codebook": "e8p"}}),
    "e8p-rvq3": ({}, {"quant": {"codebook": "e8p-rvq3", "bits": 3}}),
    "e8p-rvq4": ({}, {"quant": {"codebook": "e8p-rvq4", "bits": 4}}),
    "uniform 4 by 16": ({}, {"quant": {"codebook": "uniform", "bits": 4, "group_size": 16}}),
    "lloyd-max 3": ({}, {"quant": {"codebook": "lloyd-max", "bits": 3}}),
    "rank 6": (SEVERAL, {"low_rank": {"rank": 6}}),
    "rank 6 of 16 bits": ({}, {"low_rank": {"rank": 6, "factor_bits": 16, "start": "error"}}),
    "low rank alone": ({}, {"recipe": "low-rank", "low_rank": {"rank": 12}}),
    "ldlq": ({}, {"recipe": "ldlq", "iterations": 1}),
    "round to nearest": ({}, {"recipe": "round-to-nearest"}),
    "not rotated": ({}, {"rotation": "none", "quant": {"codebook": "e8p"}}),
    "untied": ({"tie_word_embeddings": False}, {"quant": {"codebook": "e8p"}}),
    "misfit": ({"intermediate_size": 88}, {"quant": {"bits": 2}}),
}

#: Run with one checkout on its path: compress, then print a digest of every decoded tensor.
_COMPRESS = """
import hashlib, json, sys
import numpy as np
import lrc
from lrc.spec import CompressSpec
source, out, windows, values = sys.argv[1:5]
lrc.compress(source, out, CompressSpec.from_dict(json.loads(values)), windows=np.load(windows),
             threads=2)
packed = lrc.load(out).source
print(json.dumps({name: hashlib.sha256(packed.dense(name).tobytes()).hexdigest()
                  for name in packed.names()}))
"""


def run(checkout: Path, *command: str) -> str:
    """Standard output of Python under one checkout."""
    own = {"PYTHONPATH": os.pathsep.join([str(checkout), str(checkout / "kernels")])}
    done = subprocess.run(
        [sys.executable, *command],
        stdout=subprocess.PIPE, text=True, check=True, cwd=checkout, env=os.environ | own,
    )  # fmt: skip
    return done.stdout


def same_bytes(
    name: str, model: Path, values: dict[str, Any], windows: Any, given: argparse.Namespace
) -> dict[str, Any]:
    """Compress with both; a record that says how many tensors there are and which differ."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "windows.npy"
        np.save(kept, windows)
        old, new = (
            json.loads(
                run(checkout, "-c", _COMPRESS, str(model), f"{folder}/{kind}", str(kept),
                    json.dumps(values))
            )
            for kind, checkout in (("old", given.old), ("new", given.new))
        )  # fmt: skip
    differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return {"case": name, "tensors": len(old), "differ": differ}


def small_models(given: argparse.Namespace) -> list[dict[str, Any]]:
    """One record a case."""
    import tiny

    records = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (changes, decompose) in CASES.items():
            model = tiny.write_model(Path(folder) / name, **changes)
            windows = np.random.default_rng(53).integers(0, 256, (8, 64))
            records.append(same_bytes(name, model, {"decompose": decompose}, windows, given))
            print(json.dumps(records[-1]), file=sys.stderr, flush=True)
    return records


def whole_model(given: argparse.Namespace) -> dict[str, Any]:
    """The default compression of a real model, on windows of random tokens."""
    vocab = json.loads((given.model / "config.json").read_text())["vocab_size"]
    windows = np.random.default_rng(59).integers(0, vocab, (16, 256))
    return same_bytes(str(given.model.name), given.model, {}, windows, given)


def same_speed(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Ratios new / old of decoding and of prompts, for each number of threads."""
    records = []
    for threads in given.threads:
        rounds: list[dict[str, float]] = []
        for _ in range(given.rounds):
            old, new = (
                json.loads(
                    run(checkout, "-m", "lrc", "bench", str(given.packed), "--threads",
                        str(threads), "--json", "--quiet")
                )
                for checkout in (given.old, given.new)
            )  # fmt: skip
            keys = ("decode_tokens_per_s", "prefill_tokens_per_s")
            rounds.append({key: new[key] / old[key] for key in keys})
        for key in rounds[0]:
            ratios = sorted(r[key] for r in rounds)
            records.append({
                "case": f"new / old, {key}", "threads": threads,
                "ratio": statistics.median(ratios), "range": [ratios[0], ratios[-1]],
            })  # fmt: skip
    return records


def main() -> int:
    """Parse, compare, write JSON lines; 1 where a tensor differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=lambda p: Path(p).resolve())
    parser.add_argument("--new", type=lambda p: Path(p).resolve(), default=ROOT)
    parser.add_argument("--model", type=lambda p: Path(p).resolve())
    parser.add_argument("--packed", type=lambda p: Path(p).resolve())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--skip-small", action="store_true")
    given = parser.parse_args()
    records = [] if given.skip_small else small_models(given)
    if given.model:
        records.append(whole_model(given))
    if given.packed:
        records += same_speed(given)
    print("\n".join(json.dumps(record) for record in (harness.environment(), *records)))
    return int(any(record.get("differ") for record in records))


if __name__ == "__main__":
    raise SystemExit(main())
