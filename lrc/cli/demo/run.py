"""``lrc demo``: fetch a small model, compress it with the defaults, measure and run both.

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
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lrc.base.progress import SILENT, Progress, SilentProgress
from lrc.errors import LrcError
from lrc.spec import CompressSpec

QUESTION = "Why is the sky blue? Answer in three sentences."
CTX = 512
WINDOWS = 20
ANSWER_TOKENS = 80
TEMPERATURE = 0.6
SEED = 20261122

Record = dict[str, Any]


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured: a record for each model, one for the compression."""

    original: Record
    compressed: Record
    compression: Record
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
    _require_packages("gguf", "jinja2")
    from lrc.cli.demo.model import fetch_demo_model

    folder = default_folder() if folder is None else folder
    original = fetch_demo_model(folder, progress)
    stages = _Stages(original, spec or CompressSpec(), threads, progress)
    compression = stages.compress()
    measured = stages.evaluate(windows)
    return DemoResult(
        original=measured["original"] | stages.answer(stages.original),
        compressed=measured["compressed"] | stages.answer(stages.compressed),
        compression=compression,
        folder=str(folder),
    )


@dataclass(frozen=True)
class _Stages:
    """What follows once the original is on disk."""

    original: Path
    spec: CompressSpec
    threads: int | None
    progress: Progress = field(compare=False)

    @property
    def compressed(self) -> Path:
        return self.original.with_name(f"{self.original.name}-compressed")

    @cached_property
    def identity(self) -> Record:
        """What every result depends on."""
        from lrc.base.fingerprint import code_digest
        from lrc.formats.safetensors.checkpoint import Checkpoint

        source = Checkpoint.open(self.original).digest()
        return {"code": code_digest(), "source": source, "spec": self.spec.to_dict()}

    def compress(self) -> Record:
        """Compress; an older model is there until the new one is complete."""
        from lrc.cli.demo.replace import check_replaceable, remove_replaceable, replace
        from lrc.formats.safetensors.checkpoint import Checkpoint
        from lrc.pipeline.compress import compress

        fresh = self.compressed.with_name(f"{self.compressed.name}-next")

        def make() -> Record:
            original = Checkpoint.open(self.original)
            check_replaceable(self.compressed, original)
            if self.compressed.exists():
                self.progress.note("compressing again: what is on disk is of another run")
            remove_replaceable(fresh, original)  # complete, but it never took its place
            report = compress(
                self.original,
                fresh,
                self.spec,
                threads=self.threads,
                progress=self.progress,
            )
            replace(self.compressed, fresh, original)
            return {
                "seconds": report.seconds,
                "peak_rss_bytes": report.peak_rss_bytes,
                "warnings": list(report.warnings),
            }

        there = (self.compressed / "lrc.json").is_file()
        return self._stage(self.compressed.with_suffix(".json"), {}, make, anew=not there)

    def evaluate(self, windows: int) -> Record:
        """One pass over the text measures both models."""
        from lrc.cli.sample_text import help_topics_text
        from lrc.measure.evaluate import perplexity, text_windows
        from lrc.measure.storage import storage
        from lrc.run.load import load

        text = help_topics_text()

        def make() -> Record:
            loaded, other = load(self.compressed), load(self.original)
            found = perplexity(
                loaded.model,
                text_windows(loaded.tokenizer, text, CTX, windows),
                against=other.model,
                progress=self.progress,
                threads=self.threads,
            )
            before = {
                "perplexity": found.against_perplexity,
                "perplexity_stderr": found.against_perplexity_stderr,
                "kl_divergence": None,
                "kl_stderr": None,
                "top1_agreement": None,
            }
            after = {name: getattr(found, name) for name in before}
            return {
                "original": {**before, **storage(other.source)},
                "compressed": {**after, **storage(loaded.source)},
            }

        digest = hashlib.sha256(text.encode()).hexdigest()
        return self._stage(
            self.compressed.with_name(f"{self.compressed.name}-eval.json"),
            {"text": digest, "ctx": CTX, "windows": windows},
            make,
        )

    def answer(self, model: Path) -> Record:
        """Answer the question in a process of its own, so that its peak memory is its own."""
        options = [
            *("--chat", "-p", QUESTION, "--max-tokens", str(ANSWER_TOKENS)),
            *("--temp", str(TEMPERATURE), "--seed", str(SEED), "--json"),
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
        return self._stage(path, {"options": options, "machine": platform.node()}, make)

    def _stage(
        self, path: Path, key: Record, make: Callable[[], Record], *, anew: bool = False
    ) -> Record:
        """Give the record at ``path`` if it has the same key and not ``anew``, else make it."""
        from lrc.base.atomic import atomic_write_json
        from lrc.cli.tables import json_ready

        key = json_ready({**self.identity, **key})
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["key"] == key and not anew:
                self.progress.note(f"{path.stem}: found in {path}")
                return dict(found["value"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent or damaged: made afresh
        value: Record = json_ready(make())
        atomic_write_json(path, {"key": key, "value": value})
        return value


def _require_packages(*names: str) -> None:
    """Say at once what would otherwise fail minutes later."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise LrcError(
            f"the demo needs {' and '.join(missing)}; install with: pip install 'lrc-llm[demo]'"
        )
