"""The models of a measurement: compressed by the command, imported from GGUF, dithered."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_settings import Setting

from lrc import __version__
from lrc.base.atomic import atomic_directory, atomic_write_json
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.sharded import write_weights
from lrc.formats.safetensors.writing import TensorSpec
from lrc.measure.storage import linear_weights

Record = dict[str, Any]
SEED = 20261122
#: Weights that share a grid in Q4_1, and the steps of that grid.
GROUP, STEPS = 32, 15


class FailedError(Exception):
    """A command failed; the message is its last line."""


@dataclass(frozen=True)
class Compressor:
    """Compresses one model, each setting in a process of its own, and keeps what it made.

    With ``share_surveys``, targets that differ in nothing else use one survey; only the first
    counts the seconds that it took.
    """

    model: Path
    work: Path
    calibration: tuple[Path, ...]
    nsamples: int
    threads: int | None = None
    share_surveys: bool = False

    def __call__(self, setting: Setting) -> tuple[Path, Record]:
        """The compressed model and what compressing it cost.

        Raises
        ------
        FailedError
            The command failed.
        """
        name = re.sub(r"[^\w.=-]+", "_", setting.text)
        out = self.work / f"{name}-{self._key(setting.options, setting.config)}"
        note = out.with_name(out.name + ".json")
        if out.exists() and note.exists():
            return out, {**json.loads(note.read_text()), "reused": True}
        if out.exists():  # finished, but the process that would have noted its cost was killed
            shutil.rmtree(out)
        resumed = out.with_name(out.name + ".partial").exists()
        survey = self._survey(setting)
        surveyed = survey is not None and survey.exists()
        report = json.loads(lrc(*self._arguments(setting, out), log=out.with_name(f"{name}.log")))
        cost = {key: report[key] for key in ("seconds", "peak_rss_bytes", "warnings")}
        cost["resumed"] = resumed  # then the seconds are those of the last part
        cost["surveyed_before"] = surveyed  # then they lack the survey's
        atomic_write_json(note, cost)
        return out, {**cost, "reused": False}

    def _arguments(self, setting: Setting, out: Path) -> list[str]:
        options = [*setting.options, "--nsamples", str(self.nsamples), "--json"]
        if setting.config:
            config = out.with_name(out.name + ".config.json")
            config.write_text(json.dumps(setting.config))
            options += ["--config", str(config)]
        if self.threads is not None:
            options += ["--threads", str(self.threads)]
        survey = self._survey(setting)
        if survey is not None:
            options += ["--survey", str(survey)]
        files = [str(path) for path in self.calibration]
        return ["compress", str(self.model), "-o", str(out), *options, "--calib", *files]

    def _survey(self, setting: Setting) -> Path | None:
        """Where the survey of a target is kept for the others."""
        if not self.share_surveys or setting.targetless is None:
            return None
        return self.work / f"survey-{self._key(setting.targetless, setting.config)}"

    def _key(self, options: tuple[str, ...], config: dict[str, Any]) -> str:
        """What decides the result, but for the code itself."""
        decided = [__version__, *self._inputs, self.nsamples, options, config]
        return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:10]

    @cached_property
    def _inputs(self) -> list[str]:
        texts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.calibration]
        return [Checkpoint.open(self.model).digest(), *texts]


def lrc(*arguments: str, log: Path) -> str:
    """Output of the command ``lrc``; what it tells on the way goes to ``log``.

    Raises
    ------
    FailedError
        It did not exit with 0.
    """
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "lrc", *arguments],
            stdout=subprocess.PIPE, stderr=stream, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        lines = log.read_text(encoding="utf-8").split("\n")
        said = [line for line in lines if "error:" in line] or lines[-2:]
        raise FailedError(said[-1] if said[-1] else f"exit code {done.returncode}")
    return done.stdout


def import_gguf(file: Path, out: Path) -> None:
    """Write the dense model in a GGUF file to ``out``; its weights are rounded to float16."""
    lrc("import-gguf", str(file), "-o", str(out), "--quiet", log=out.with_name(out.name + ".log"))


def gguf_storage(file: Path) -> Record:
    """Size and bits a weight of a GGUF file, and the types that its linear layers really have."""
    from gguf import GGUFReader

    tensors = GGUFReader(file).tensors
    linear = [t for t in tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    size = file.stat().st_size
    return {
        "bits_per_weight_linear": 8 * sum(int(t.n_bytes) for t in linear)
        / sum(int(t.n_elements) for t in linear),
        "bits_per_weight_file": 8 * size / sum(int(t.n_elements) for t in tensors),
        "file_bytes": size,
        "types": dict(Counter(t.tensor_type.name for t in linear).most_common()),
    }  # fmt: skip


def dithered_copy(model: Path, folder: Path, seed: int = SEED) -> Path:
    """Copy a model, once, with noise of one Q4_1 grid step in its linear layers.

    Weights that once lay on a grid of 4 bits look nearly lossless to formats that use the same
    grid; with the noise they lie on none. The copy is a model of its own, to be compressed and
    to be judged against.
    """
    source = Checkpoint.open(model)
    out = folder / f"dithered-{source.digest()[:10]}"
    if out.exists():
        return out
    specs = {
        name: TensorSpec("F16" if info.dtype == "F16" else "F32", info.shape)
        for name, info in ((name, source.info(name)) for name in source.names())
    }

    linear = set(linear_weights(source))

    def read(name: str) -> NDArray[Any]:
        values = source.dense(name)
        if name in linear:
            values = dithered(values, np.random.default_rng([seed, zlib.crc32(name.encode())]))
        return values.astype(np.float16 if specs[name].dtype == "F16" else np.float32)

    with atomic_directory(out) as work:
        for path in source.other_files():
            shutil.copyfile(path, work / path.name)
        write_weights(work, specs, read)
    return out


def dithered(W: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """W (m, n) plus uniform noise as wide as one step: 1/15 of the range of 32 columns."""
    starts = np.arange(0, W.shape[1], GROUP)
    span = np.maximum.reduceat(W, starts, axis=1) - np.minimum.reduceat(W, starts, axis=1)
    step = np.repeat(span / STEPS, GROUP, axis=1)[:, : W.shape[1]]
    noisy: NDArray[np.float32] = W + step * (rng.random(W.shape, np.float32) - np.float32(0.5))
    return noisy
