"""Peak memory of evaluating a synthetic checkpoint of a large model's shape, against itself.

    python bench/evaluate_memory.py                     four blocks of 4096 x 11008 (7B), float16
    python bench/evaluate_memory.py --hidden 1024 --inner 2816 --heads 8

The weights are random; only memory is measured. Each evaluation is a process of its own. One JSON
line: the peak with all blocks and with half of them, which must be alike, and beside it what one
block takes in float32 and what the activations of the windows do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scale import TEXT, write_model

CTX = 512


def peak(model: Path, text: Path, windows: int) -> int:
    """Peak resident bytes of ``lrc eval MODEL --against MODEL``."""
    command = [
        sys.executable, "-m", "lrc", "eval", str(model), "--against", str(model),
        "--text", str(text), "--ctx", str(CTX), "--windows", str(windows), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return int(json.loads(done.stdout)["peak_rss_bytes"])


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Write both models, and evaluate each."""
    text = work / "text.txt"
    text.write_text(TEXT * (arguments.windows * CTX // len(TEXT) + 1))
    hidden, inner = arguments.hidden, arguments.inner
    peaks = {}
    for layers in (max(arguments.layers // 2, 1), arguments.layers):
        model = work / f"model-{layers}"
        model.mkdir()
        write_model(model, hidden, inner, arguments.heads, layers)
        peaks[layers] = peak(model, text, arguments.windows)
    gib = 2**30
    return {
        "hidden": hidden,
        "inner": inner,
        "windows": arguments.windows,
        "peak_rss_gib": {layers: round(bytes_ / gib, 2) for layers, bytes_ in peaks.items()},
        "block_float32_gib": round(4 * hidden * (4 * hidden + 3 * inner) / gib, 2),
        "activations_gib": round(2 * 4 * hidden * arguments.windows * CTX / gib, 2),
    }


def main() -> None:
    """Parse, measure, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--inner", type=int, default=11008)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--windows", type=int, default=8)
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(measure(parser.parse_args(), Path(work))))


if __name__ == "__main__":
    main()
