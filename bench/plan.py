"""Plan against fact: does a compression take what `lrc plan` says that it takes?

    python bench/plan.py MODEL --options --nsamples 8 --bits 4
    python bench/plan.py --hidden 4096 --inner 11008 --heads 32 --layers 1 --tokens 1024 \
        --options --effort least --bits 4 --rank 0 --ram 4G

Without MODEL a synthetic checkpoint of that shape is made, and text for so many tokens. The
compression runs in a process of its own. One JSON line comes out: what was planned, what came, and
by how much they differ; processor seconds and peak of the process, its probe and imports among
them, stand beside for machines on which others work, too. The exit status is 1 where weight files
differ by a byte though their size was said to be exact, peak memory by over 10 %, or time by over
30 %.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scale import TEXT, write_model

#: What plan and fact may differ by.
MEMORY, TIME = 0.10, 0.30

Record = dict[str, Any]


def judged(record: Record) -> Record:
    """Plan and fact of what ``lrc compress --json`` has written, side by side."""
    plan, fact = record["plan"], record["fact"]
    size = plan["size"]
    memory = fact["peak_bytes"] / plan["memory"]["peak_bytes"] - 1
    time = fact["seconds"] / plan["seconds"] - 1
    in_size = size["weights"] <= fact["weights"] <= size["weights_most"]
    return {
        "weights": [size["weights"], size["weights_most"], fact["weights"]],
        "size_exact": size["exact"],
        "size_holds": in_size,
        "peak_gib": [round(of / 2**30, 3) for of in (plan["memory"]["peak_bytes"],
                                                     fact["peak_bytes"])],
        "at": plan["memory"]["what"],
        "memory_off": round(memory, 3),
        "seconds": [round(plan["seconds"], 1), round(fact["seconds"], 1)],
        "time_off": round(time, 3),
        "spooled": plan["memory"]["spooled"],
        "holds": in_size and abs(memory) <= MEMORY and abs(time) <= TIME,
    }  # fmt: skip


def measured(arguments: argparse.Namespace, work: Path) -> Record:
    """Compress in a child process."""
    model, text = arguments.model, []
    if model is None:
        model = work / "model"
        model.mkdir()
        write_model(
            model, arguments.hidden, arguments.inner, arguments.heads, arguments.layers,
            arguments.vocab,
        )  # fmt: skip
        (work / "text.txt").write_text(TEXT * (arguments.tokens // len(TEXT) + 1))
        windows = str(arguments.tokens // 512)
        text = ["--calib", str(work / "text.txt"), "--nsamples", windows, "--seqlen", "512"]
    command = [sys.executable, "-m", "lrc", "compress", str(model), "-o", str(work / "out")]
    command += ["--json", *text, *arguments.options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    record: Record = json.loads(done.stdout)
    return record | {"used": resource.getrusage(resource.RUSAGE_CHILDREN)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?")
    for name, value in (
        *(("hidden", 512), ("inner", 1376), ("heads", 8), ("layers", 1)),
        *(("tokens", 1024), ("vocab", None)),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--work", type=Path, help="folder for what is made meanwhile")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of lrc compress")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        record = measured(arguments, Path(work))
    found, used = judged(record), record["used"]
    found["processor_seconds"] = round(used.ru_utime + used.ru_stime, 1)
    found["maxrss_gib"] = round(used.ru_maxrss / 2**20, 3)  # KiB on Linux
    print(json.dumps(found))
    sys.exit(not found["holds"])


if __name__ == "__main__":
    main()
