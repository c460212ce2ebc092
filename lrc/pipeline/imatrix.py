"""Importance matrices out: what the inputs of a model come to, for llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrc.base.atomic import atomic_write_bytes, check_output
from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads, single_threaded_blas
from lrc.calibrate.every_block import EveryBlock
from lrc.calibrate.examples import TextExamples
from lrc.calibrate.means import sums_of_squares
from lrc.calibrate.mixture import calibration_windows
from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.convert.gguf.importance import gguf_names
from lrc.errors import SpecError
from lrc.formats.imatrix import Entry, imatrix_bytes
from lrc.models.base import Stack
from lrc.models.opened import open_original
from lrc.models.tensors import linear_of
from lrc.nn.linear import Linear
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec


@dataclass
class _Sums(EveryBlock):
    """The visitor that adds up squares."""

    advance: Callable[..., object]
    found: dict[str, Entry] = field(default_factory=dict)

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Every matrix of a site has the same inputs."""
        sums, tokens = sums_of_squares(at.streams.student)
        entry = Entry(sums[None].astype(np.float32), np.array([tokens], np.float32))
        for key in at.site.linears:
            self.found[linear_of(at.tensors[key])] = entry
            self.advance()
        return {}


def write_imatrix(
    model_dir: Path | str,
    out: Path | str,
    calibration: CalibrationSpec | None = None,
    *,
    seed: int = 20261122,
    threads: int | None = None,
    progress: Progress = SILENT,
    windows: ArrayLike | None = None,
) -> dict[str, Entry]:
    """Write what the inputs of a dense model come to, for ``llama-quantize --imatrix``.

    Parameters
    ----------
    model_dir
        A dense Hugging Face directory.
    out
        The GGUF file; must not exist.
    calibration
        Which text is looked at, as of :func:`lrc.compress`.
    threads
        Never changes a byte.
    windows : integers (N, T), optional
        Tokens to use instead.

    Returns
    -------
    dict
        The entries by GGUF name.

    Raises
    ------
    LrcError
        For bad input, and families that have no GGUF names here.
    """
    out, spec = Path(out), calibration or CalibrationSpec()
    check_output(out)
    if spec.imatrix:
        raise SpecError("an importance matrix is measured on text; leave --imatrix out")
    model, checkpoint = open_original(model_dir)
    names, count = gguf_names(model), resolve_threads(threads)
    with single_threaded_blas():
        if windows is None:
            text = calibration_windows(
                spec, Tokenizer.open(checkpoint.path), model,
                seed=seed, threads=count, progress=progress,
            )  # fmt: skip
            for warning in text.warnings:
                progress.note(warning)
            windows = text.windows
        tokens = np.asarray(windows)
        with progress.bar("moments", len(names), "matrix") as advance:
            visitor = _Sums(advance)

            def start(stack: Stack, chunks: Sequence[NDArray[Any]], given: Given) -> Streams:
                return Streams(start_stream(stack, chunks, count, given.student))

            walk_stacks(model, TextExamples(tokens).inputs, start, visitor, count)
    entries = {names[name]: entry for name, entry in visitor.found.items()}
    dataset = " ".join(Path(name).name for name in spec.files) or "text written by the model"
    atomic_write_bytes(out, imatrix_bytes(entries, dataset, *tokens.shape))
    return entries
