"""Peak memory of tuning a synthetic model of a large one's shape.

    python bench/tune_memory.py                  two blocks of 4096 x 11008 (7B), 32000 tokens
    python bench/tune_memory.py --hidden 512 --inner 1376 --heads 8 --vocab 1000

Weights and codes are random: only memory is measured, as the operating system counts it. The tuning
is a process of its own: two steps of two windows of ``--window`` tokens, and a look at two more.
One JSON line comes out, with what one block takes in float32 beside the peak.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness  # noqa: F401  # first: it pins the threads
import numpy as np
from blocks_7b import matrix
from scale import TEXT, write_model

from lrc.formats.safetensors.writing import write_safetensors
from lrc.models.opened import open_original
from lrc.models.tensors import weight_of
from lrc.parts.packed import FORMAT_VERSION, MANIFEST, matrix_record, matrix_tensors


def compressed(model: Path, out: Path) -> None:
    """A compressed directory of a dense model, with random 2-bit codes in the place of its own."""
    opened, source = open_original(model)
    out.mkdir()
    tensors = opened.tensors
    records: dict[str, Any] = {}
    files: dict[str, dict[str, Any]] = {"tables.safetensors": {}}
    for name in tensors.read:
        role = next((r for n, r in tensors.matrices.items() if weight_of(n) == name), None)
        if role is None:
            value = source.dense(name)
            kind = np.float16 if value.ndim > 1 else np.float32
            files["tables.safetensors"][name] = value.astype(kind)
            continue
        file = f"block-{role.block:05d}.safetensors"
        made = matrix(tensors.shape(name), len(records))
        files.setdefault(file, {}).update(matrix_tensors(name, made))
        records[name] = {"file": file, "role": "matrix", **matrix_record(made)}
    for file, found in files.items():
        write_safetensors(out / file, found)
    for side in ("config.json", "tokenizer.json"):
        shutil.copy(model / side, out / side)
    manifest = {
        "format": "lrc", "version": FORMAT_VERSION, "files": sorted(files), "matrices": records,
        "source": {"digest": source.digest(), "parameters": 0},
    }  # fmt: skip
    (out / MANIFEST).write_text(json.dumps(manifest))


def measure(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Write both models, and tune."""
    model, out, text = work / "model", work / "out", work / "text.txt"
    model.mkdir()
    write_model(model, given.hidden, given.inner, given.heads, given.layers, given.vocab)
    compressed(model, out)
    text.write_text(TEXT * (6 * given.window * 4 // len(TEXT) + 1))
    command = [
        sys.executable, "-m", "lrc", "tune", str(out), "--against", str(model),
        "--calib", str(text),
        "--tokens", str(4 * given.window), "--held-out", "2", "--seqlen", str(given.window),
        "--batch", "2",
        "--checks", "1", "--rate", "0.001", "--threads", "1", "--json",
    ]  # fmt: skip
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    gib = 2**30
    return {
        "hidden": given.hidden, "inner": given.inner, "blocks": given.layers,
        "vocab": given.vocab, "window": given.window, "numbers": found["numbers"],
        "seconds": round(found["seconds"], 1),
        "peak_rss_gib": round(found["peak_rss_bytes"] / gib, 2),
        "block_float32_gib": round(
            4 * given.hidden * (4 * given.hidden + 3 * given.inner) / gib, 2
        ),
    }  # fmt: skip


def main() -> None:
    """Parse, measure, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("hidden", 4096), ("inner", 11008), ("heads", 32), ("layers", 2),
                        ("vocab", 32000), ("window", 512)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(measure(given, Path(work))))


if __name__ == "__main__":
    main()
