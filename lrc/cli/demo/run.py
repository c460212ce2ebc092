"""``lrc demo``: fetch a small model, compress it, measure and run it beside plain rounding.

Every stage leaves its result on disk beside the models, with the key of everything that decided
it; a second run repeats only what its key no longer matches.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.base.progress import SILENT, Progress, SilentProgress
from lrc.cli.demo.plan import demo_plan, rounded_spec
from lrc.cli.demo.records import Record, Records
from lrc.errors import LrcError
from lrc.spec import CompressSpec

if TYPE_CHECKING:
    from lrc.measure.evaluate import Evaluation

QUESTION = "Why is the sky blue?"
CTX = 512
WINDOWS = 12
ANSWER_TOKENS = 80
#: Of the only window that plain rounding, which looks at no activations, is given.
_UNUSED_TOKENS = 8


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured: a record for each model, for the compression and for its plan."""

    original: Record
    compressed: Record
    rounded: Record
    compression: Record
    plan: Record
    folder: str


def default_folder() -> Path:
    """``lrc/demo`` in the user's cache directory (``XDG_CACHE_HOME`` where it is set)."""
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(given) if given else Path.home() / ".cache") / "lrc" / "demo"


def run_demo(
    folder: Path | None = None,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
    windows: int = WINDOWS,
    spec: CompressSpec | None = None,
) -> DemoResult:
    """Run every stage whose result is not on disk yet.

    Parameters
    ----------
    folder
        Where models and records live; see :func:`default_folder`.
    threads
        Threads to use; every processor by default.
    progress
        Receives a bar for each long stage.
    windows
        Windows of 512 tokens of Python's help topics to evaluate on.
    spec
        How to compress; the defaults when None.

    Raises
    ------
    LrcError
        A package is missing, the model cannot be fetched, or a stage fails.
    """
    began = time.perf_counter()
    _require_packages("gguf", "jinja2")
    from lrc.cli.demo.model import fetch_demo_model

    folder = default_folder() if folder is None else folder
    stages = _Stages(fetch_demo_model(folder, progress), threads, progress)
    planned = {} if spec else stages.plan(began, windows * CTX)
    spec = spec or CompressSpec.from_dict(planned["spec"])
    rounded = rounded_spec(spec)
    compression = stages.compress(stages.compressed, spec)
    stages.compress(stages.rounded, rounded, [[0] * _UNUSED_TOKENS])
    measured = stages.evaluate(windows, (spec, rounded))
    return DemoResult(
        original=measured["original"] | stages.answer(stages.original),
        compressed=measured["compressed"] | stages.answer(stages.compressed, spec),
        rounded=measured["rounded"] | stages.answer(stages.rounded, rounded),
        compression=compression,
        plan=planned,
        folder=str(folder),
    )


@dataclass(frozen=True)
class _Stages:
    """What follows once the original is on disk."""

    original: Path
    threads: int | None
    progress: Progress = field(compare=False)

    @property
    def compressed(self) -> Path:
        return self.original.with_name(f"{self.original.name}-compressed")

    @property
    def rounded(self) -> Path:
        return self.original.with_name(f"{self.original.name}-rounded")

    @cached_property
    def records(self) -> Records:
        from lrc.base.fingerprint import code_digest
        from lrc.formats.safetensors.checkpoint import Checkpoint

        source = Checkpoint.open(self.original).digest()
        return Records({"code": code_digest(), "source": source}, self.progress)

    def plan(self, began: float, evaluated: int) -> Record:
        """Choose an effort, once for a machine: another choice would be another model."""
        made = self.records.of(
            self.original.with_name(f"{self.original.name}-plan.json"),
            {"machine": platform.node(), "threads": self.threads, "evaluated": evaluated},
            lambda: demo_plan(self.original, self.threads, began, evaluated),
        )
        self.progress.note(plan_line(made))
        return made

    def compress(
        self, target: Path, spec: CompressSpec, windows: list[list[int]] | None = None
    ) -> Record:
        """Compress to ``target``; an older model is there until the new one is complete."""
        from lrc.cli.demo.replace import check_replaceable, remove_replaceable, replace
        from lrc.formats.safetensors.checkpoint import Checkpoint
        from lrc.pipeline.compress import compress

        fresh = target.with_name(f"{target.name}-next")

        def make() -> Record:
            original = Checkpoint.open(self.original)
            check_replaceable(target, original)
            if target.exists():
                self.progress.note("compressing again: what is on disk is of another run")
            remove_replaceable(fresh, original)  # complete, but it never took its place
            report = compress(
                self.original,
                fresh,
                spec,
                threads=self.threads,
                progress=self.progress,
                windows=windows,
            )
            replace(target, fresh, original)
            return {
                "seconds": report.seconds,
                "peak_rss_bytes": report.peak_rss_bytes,
                "warnings": list(report.warnings),
            }

        there = (target / "lrc.json").is_file()
        key = {"spec": spec.to_dict(), "windows": windows}
        return self.records.of(target.with_suffix(".json"), key, make, anew=not there)

    def evaluate(self, windows: int, specs: tuple[CompressSpec, CompressSpec]) -> Record:
        """One pass over the text measures all models, on float32 activations."""
        from lrc.cli.sample_text import help_topics_text
        from lrc.measure.evaluate import evaluation, text_windows
        from lrc.measure.scoring import score_windows
        from lrc.measure.storage import storage
        from lrc.run.load import load

        text = help_topics_text()

        def make() -> Record:
            original, *others = map(load, (self.original, self.compressed, self.rounded))
            scored = score_windows(
                [other.model for other in others],
                text_windows(original.tokenizer, text, CTX, windows),
                "second-half",
                original.model,
                activations="f32",
                progress=self.progress,
                threads=self.threads,
            )
            first, second = map(evaluation, scored)
            return {
                "original": {**_of_original(first), **storage(original.source)},
                "compressed": {**_of_other(first), **storage(others[0].source)},
                "rounded": {**_of_other(second), **storage(others[1].source)},
            }

        return self.records.of(
            self.compressed.with_name(f"{self.compressed.name}-eval.json"),
            {
                "text": hashlib.sha256(text.encode()).hexdigest(),
                "specs": [spec.to_dict() for spec in specs],
                "ctx": CTX,
                "windows": windows,
            },
            make,
        )

    def answer(self, model: Path, spec: CompressSpec | None = None) -> Record:
        """Answer the question in a process of its own, so that its peak memory is its own."""
        options = [
            *("--chat", "-p", QUESTION, "--max-tokens", str(ANSWER_TOKENS)),
            *("--temp", "0", "--json"),
            *(() if self.threads is None else ("--threads", str(self.threads))),
        ]
        quiet = ["--quiet"] if isinstance(self.progress, SilentProgress) else []

        def make() -> Record:
            command = [sys.executable, "-m", "lrc", "generate", str(model), *options, *quiet]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
            if done.returncode != 0:
                raise LrcError(f"{model.name} gave no answer: its process says why above")
            record: Record = json.loads(done.stdout)
            return record

        path = model.with_name(f"{model.name}-answer.json")
        key = {
            "options": options,
            "machine": platform.node(),
            "spec": spec.to_dict() if spec else None,
        }
        return self.records.of(path, key, make)


def plan_line(made: Record) -> str:
    """What a plan has chosen, and what it expects."""
    from lrc.cli.tables import human_time, number

    spec = CompressSpec.from_dict(made["spec"])
    late = "" if made["fits"] else ", which is more than planned: no less work is known"
    return (
        f"plan: effort {made['effort']}, {spec.calibration.nsamples} windows of text, "
        f"{spec.decompose.quant.codebook} at {spec.decompose.quant.bits} bits; "
        f"about {human_time(made['seconds'])} from here on{late} "
        f"({number(made['multiplications_per_second'] / 1e9)} billion products and "
        f"{number(made['solved_weights_per_second'] / 1e6)} million weights solved a second)"
    )


def _of_original(found: Evaluation) -> Record:
    return {
        "perplexity": found.against_perplexity,
        "perplexity_stderr": found.against_perplexity_stderr,
        "kl_divergence": None,
        "kl_stderr": None,
        "top1_agreement": None,
    }


def _of_other(found: Evaluation) -> Record:
    return {name: getattr(found, name) for name in _of_original(found)}


def _require_packages(*names: str) -> None:
    """Say at once what would otherwise fail minutes later."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise LrcError(
            f"the demo needs {' and '.join(missing)}; install with: pip install 'lrc-llm[demo]'"
        )
