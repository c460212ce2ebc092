"""Quality for size: one row a setting, judged from the bytes on disk against the original.

    python bench/quality.py MODEL --calib TEXT --text TEST --settings e8p:2 shuffle12:3 bpw:2.5
        [--windows 20 40] [--second-text OTHER] [--work DIR] [--gguf FILE ...]
        [--ablation [BASE]] [--dithered [SETTING ...]] [--share-surveys]
        --out FILE.jsonl [--markdown FILE] [--chart FILE.svg]

Each setting (see quality_settings.py) is compressed by the command `lrc compress` in a process
of its own. Perplexity, KL divergence and top-1 agreement are of the second half of each window;
the intervals hold 95 % by a paired bootstrap over windows. Text that shares a passage with the
calibration text is refused. GGUF files must be of the same original; their bits are those of
the types that the file really has, whatever its name. Compressed models in DIR are used again
when model, options, text and version are the same; remove them after changing the code.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
from quality_judge import Judge, to_base
from quality_models import Compressor, FailedError, dithered_copy, gguf_storage, import_gguf
from quality_settings import ablations, parse
from quality_table import chart, markdown
from quality_text import RefusedError, check_apart, read, second_text

from lrc.cli.tables import json_ready
from lrc.errors import LrcError

Record = dict[str, Any]


class Bench:
    """Everything that is measured against one model."""

    def __init__(
        self, reference: str, model: Path, judge: Judge, work: Path, given: argparse.Namespace
    ) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.reference, self.judge, self.work = reference, judge, work
        self.compress = Compressor(
            model, work, tuple(given.calib), given.nsamples, given.threads, given.share_surveys
        )
        self.done: dict[str, Record] = {}

    def original(self) -> Record:
        """The row that all others are compared with."""
        row = {"setting": self.reference, "reference": self.reference, "family": self.reference}
        return row | self.judge.itself()

    def setting(self, text: str) -> Record:
        """The row of one setting, or one that says why there is none."""
        if text not in self.done:
            setting = parse(text)
            row = {"setting": text, "reference": self.reference, "family": setting.family}
            try:
                path, cost = self.compress(setting)
                self.done[text] = row | cost | self.judge(path)
            except (FailedError, LrcError) as error:
                self.done[text] = row | {"error": str(error)}
        return self.done[text]

    def gguf(self, file: Path) -> Record:
        """The row of a GGUF file."""
        row = {"setting": file.stem, "reference": self.reference, "family": "llama.cpp"}
        dense = self.work / f"{file.stem}-import"
        shutil.rmtree(dense, ignore_errors=True)  # of an interrupted run
        try:
            import_gguf(file, dense)
            return row | self.judge(dense) | gguf_storage(file)
        except (FailedError, LrcError) as error:
            return row | {"error": str(error)}
        finally:
            shutil.rmtree(dense, ignore_errors=True)

    def ablation(self, base: str) -> Iterator[Record]:
        """The base, each change of it, and the allocator at the same bits."""
        reference = self.setting(base)
        yield reference | {"ablation": "base", "base": base}
        rows = ablations(base)
        if "error" not in reference:
            bits = reference["bits_per_weight_linear"]
            rows.append(("bits and ranks chosen for each matrix", f"bpw:{bits:.4f}"))
        for name, text in rows:
            row = self.setting(text) | {"ablation": name, "base": base}
            paired = "error" not in row and "error" not in reference
            yield row | ({"to_base": to_base(row, reference)} if paired else {})


def rows(given: argparse.Namespace, work: Path) -> Iterator[Record]:
    """Every row that was asked for."""
    texts = [(given.text.name, read(given.text)), second_text(given.second_text)]
    check_apart(given.calib, texts)

    work.mkdir(parents=True, exist_ok=True)

    def bench(reference: str, model: Path) -> Bench:
        judge = Judge(model, texts, given.windows, given.ctx, given.threads)
        return Bench(reference, model, judge, work / reference, given)

    first = bench("original", given.model)
    yield first.original()
    yield from map(first.setting, given.settings)
    yield from map(first.gguf, given.gguf)
    if given.ablation:
        yield from first.ablation(given.ablation)
    del first
    if given.dithered is not None:
        second = bench("dithered", dithered_copy(given.model, work))
        yield second.original()
        yield from map(second.setting, given.dithered or given.settings)


def options() -> argparse.Namespace:
    """Parse and check what can be checked before anything is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--calib", nargs="+", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--second-text", type=Path, help="default: the topics of Python's help()")
    parser.add_argument("--settings", nargs="*", default=[])
    parser.add_argument("--windows", nargs="+", type=int, default=[20])
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--nsamples", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--work", type=Path, help="keeps the compressed models")
    parser.add_argument("--gguf", nargs="*", type=Path, default=[])
    parser.add_argument("--ablation", nargs="?", const="shuffle12:2", metavar="BASE")
    parser.add_argument("--dithered", nargs="*", metavar="SETTING")
    parser.add_argument(
        "--share-surveys",
        action="store_true",
        help="one survey for targets that differ in nothing else",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--chart", type=Path)
    given = parser.parse_args()
    for option, package in (("chart", "matplotlib"), ("gguf", "gguf")):
        if getattr(given, option) and importlib.util.find_spec(package) is None:
            parser.error(f"--{option} needs {package}: pip install 'lrc-llm[{option}]'")
    if min(given.windows) < 1:
        parser.error("--windows must be at least 1")
    try:
        for text in (*given.settings, *(given.dithered or ())):
            parse(text)
        if given.ablation:
            ablations(given.ablation)
    except ValueError as error:
        parser.error(str(error))
    return given


def main() -> int:
    """Measure, write each row when it is known, then the tables; 1 if a row failed."""
    given = options()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    made: list[Record] = []
    with tempfile.TemporaryDirectory() as temporary, given.out.open("a") as stream:

        def write(record: Record) -> None:
            print(json.dumps(json_ready(record)), file=stream, flush=True)

        write(harness.environment())
        for row in rows(given, given.work or Path(temporary)):
            made.append({"case": "quality", **row})
            write(made[-1])
            told = row.get("error") or f"KL {row['kl_divergence']}, {row['file_bytes']} bytes"
            print(f"{row['reference']}, {row['setting']}: {told}", file=sys.stderr)
    if given.markdown:
        given.markdown.write_text(markdown(made), encoding="utf-8")
    if given.chart:
        chart(made, given.chart)
    return int(any("error" in row for row in made))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LrcError, OSError, RefusedError) as error:
        sys.exit(f"quality: error: {error}")
