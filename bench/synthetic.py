"""One large synthetic matrix: error, seconds and peak memory of each preset and rank.

    python bench/synthetic.py [--size 4096] [--settings fast balanced best e8p-rvq3:3]
        [--ranks 0 32 64 128]

W has heavy-tailed entries and channels of unequal size, its inputs a power-law spectrum and a
few outlier channels. Each line is of a process of its own, after a first small matrix that
compiles what is needed. Does low rank pay? ``backbone_error`` is the error that the bits of L R
would buy as bits of Q: that of rank 0, halved for every extra bit a weight.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
import numpy as np
from numpy.typing import NDArray

import lrc
from lrc.base.resources import peak_rss_bytes
from lrc.spec.presets import PRESETS, preset

SEED = 40961
#: Student's degrees of freedom of the entries; decay of the spectrum; share, size of outliers.
TAIL, POWER, OUTLIERS, LOUD = 5.0, 0.8, 0.004, 20.0

Record = dict[str, Any]


def problem(size: int, seed: int = SEED) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """W (size, size) float32 and the second moment H (size, size) float64 of its inputs."""
    rng = np.random.default_rng(seed)
    W = rng.standard_t(TAIL, (size, size)).astype(np.float32)
    W *= np.exp(0.4 * rng.standard_normal((size, 1))).astype(np.float32)
    W *= np.exp(0.4 * rng.standard_normal(size)).astype(np.float32) / np.float32(size**0.5)
    loud = rng.choice(size, max(1, round(OUTLIERS * size)), replace=False)
    channels = np.exp(0.3 * rng.standard_normal(size))
    channels[loud] *= LOUD
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    root = basis * (np.arange(1, size + 1) ** (-POWER / 2))
    root *= channels[:, None]
    return W, root @ root.T


def spec(setting: str, rank: int) -> lrc.DecomposeSpec:
    """A preset, or CODEBOOK:BITS with everything else by default, and a rank."""
    if setting in PRESETS:
        solver = preset(setting).decompose
    else:
        name, _, bits = setting.partition(":")
        solver = lrc.DecomposeSpec(quant=lrc.QuantSpec(codebook=name, bits=int(bits or 2)))
    return dataclasses.replace(solver, low_rank=lrc.LowRankSpec(rank=rank))


def measure(folder: Path, setting: str, rank: int, threads: int | None) -> Record:
    """Decompose the matrix in ``folder``, in this process."""
    wanted = spec(setting, rank)
    lrc.decompose(*problem(64), spec(setting, min(rank, 4)), threads=threads)
    W, H = np.load(folder / "W.npy"), np.load(folder / "H.npy")
    start = time.perf_counter()
    found = lrc.decompose(W, H, wanted, threads=threads)
    return {
        "case": "synthetic",
        "setting": setting,
        "codebook": f"{wanted.quant.codebook}:{wanted.quant.bits}",
        "size": len(W),
        "rank": found.rank,
        "relative_error": found.relative_error,
        "bits_per_weight": found.bits_per_weight,
        "seconds": round(time.perf_counter() - start, 2),
        "peak_rss_bytes": peak_rss_bytes(),
        "data_bytes": W.nbytes + H.nbytes,
        "notes": list(found.notes),
    }


def every(given: argparse.Namespace) -> Iterator[Record]:
    """One record a setting and rank, each from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        W, H = problem(given.size)
        np.save(Path(folder) / "W.npy", W)
        np.save(Path(folder) / "H.npy", H)
        del W, H
        for setting in given.settings:
            plain: Record | None = None
            for rank in given.ranks:
                record = _child(given, folder, setting, rank)
                plain = record if rank == 0 else plain
                if plain is not None:
                    extra = record["bits_per_weight"] - plain["bits_per_weight"]
                    record["backbone_error"] = plain["relative_error"] * 2**-extra
                print(f"{setting}, rank {rank}: {record['relative_error']}", file=sys.stderr)
                yield record


def _child(given: argparse.Namespace, folder: str, setting: str, rank: int) -> Record:
    command = [sys.executable, __file__, "--one", folder, "--settings", setting]
    command += ["--ranks", str(rank)]
    command += [] if given.threads is None else ["--threads", str(given.threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    record: Record = json.loads(done.stdout)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--settings", nargs="+", default=list(PRESETS))
    parser.add_argument("--ranks", nargs="+", type=int, default=[0, 32, 64, 128])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="append JSON lines here instead of printing them")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(measure(given.one, given.settings[0], given.ranks[0], given.threads)))
        return
    for record in chain([harness.environment()], every(given)):
        line = json.dumps(record)
        if given.out is None:
            print(line, flush=True)
            continue
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


if __name__ == "__main__":
    main()
