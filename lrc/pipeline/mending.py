"""Low rank for a quantized model that somebody else made: L R over its weights, as an adapter.

Both models run over the same text. At each site the second moments of the quantized model's inputs
z, its adapted layers before included, and of the original's x are taken; L R of each matrix is the
best of its rank for the error of Q in that metric, against what repeats the original's outputs.
Then, if asked for, those of all matrices together learn what the original predicts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import check_output
from lrc.base.progress import SILENT, Progress
from lrc.base.threads import ordered_map, resolve_threads, single_threaded_blas
from lrc.calibrate.every_block import EveryBlock
from lrc.calibrate.examples import TextExamples
from lrc.calibrate.mixture import calibration_windows
from lrc.calibrate.walk import Given, SiteAtWork, Streams, replaced, start_stream, walk_stacks
from lrc.convert import peft
from lrc.convert.gguf import import_gguf
from lrc.convert.gguf.adapter import Factors, write_adapter
from lrc.convert.gguf.file import gguf_package
from lrc.convert.gguf.source import Source
from lrc.convert.gguf.written import GgufModel
from lrc.convert.quantised import import_quantised
from lrc.errors import SpecError
from lrc.formats.hub import local_model
from lrc.linalg.norms import proxy_loss
from lrc.models.base import Model, Stack
from lrc.models.opened import open_original
from lrc.nn.linear import Linear
from lrc.pipeline.site import site_problems
from lrc.refine import adapter
from lrc.refine.taught import teach
from lrc.run.text import Tokenizer
from lrc.solvers.lrstep import fit_factors
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, QuantSpec

F32 = NDArray[np.float32]
#: Solves for L and R in turn: the first is the optimum, but for the rounding to float16.
_ITERATIONS = 1
_FACTOR_BITS = 16


@dataclass(frozen=True)
class RepairReport:
    """What came of it.

    ``errors`` are by matrix: relative errors of its outputs without and with L R, measured on the
    inputs that it was fitted to. ``divergence``: KL(original || model) a token of text that is held
    out, in nats, before the factors learn together and after; None where they do not.
    """

    out: Path
    rank: int
    errors: Mapping[str, tuple[float, float]]
    divergence: tuple[float, float] | None
    tokens: int
    file_bytes: int
    seconds: float


def repair(
    file: Path | str,
    against: Path | str,
    out: Path | str,
    rank: int = 32,
    calibration: CalibrationSpec | None = None,
    *,
    passes: int = 0,
    seed: int = 20261122,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> RepairReport:
    """Write an adapter that brings a quantized model closer to its original.

    Parameters
    ----------
    file
        A GGUF file, or any of its parts: the adapter is one for llama.cpp. Or a directory that is
        quantised by a method of :mod:`lrc.convert.quantised`: then one for PEFT.
    against
        Dense directory of the model that it was made from.
    out
        The adapter; must not exist.
    rank
        Of L R, at most the smaller side of a matrix.
    calibration
        Which text is looked at.
    passes
        Times that the factors of all matrices together learn from that text, once they are fitted
        matrix by matrix; 0: they do not.
    threads
        Never changes a byte.

    Raises
    ------
    LrcError
        For bad input, and where the file is not of the original's sizes.

    Notes
    -----
    The weights are decoded to float16 in a temporary directory beside ``out``. Embedding and head
    stay as they are. Memory as of :func:`lrc.compress`, with ``passes`` as of
    :func:`lrc.refine.taught.teach`.
    """
    began, out = time.perf_counter(), Path(out)
    check_output(out)
    if rank < 1:
        raise SpecError(f"rank={rank} must be at least 1")
    if passes < 0:
        raise SpecError(f"passes={passes} must be 0 or positive")
    model, checkpoint = open_original(against)
    given = _gguf_file(file, model) if _is_gguf(file) else _directory(file, model)
    spec = CompressSpec(
        decompose=DecomposeSpec(quant=QuantSpec.plain(2), rotation="none", seed=seed),
        calibration=calibration or CalibrationSpec(),
    )
    count = resolve_threads(threads)
    with (
        tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".lrc-repair-") as folder,
        single_threaded_blas(),
    ):
        dense = given.decode(Path(folder) / "model")
        student, _ = open_original(dense)
        _check_alike(model, student, Path(file))
        text = calibration_windows(
            spec.calibration, Tokenizer.open(checkpoint.path), model,
            seed=seed, threads=count, progress=progress,
        )  # fmt: skip
        for warning in text.warnings:
            progress.note(warning)
        if passes and len(text.windows) < 2:
            raise SpecError(f"passes={passes} takes two windows of text at least; there is one")
        visitor = _run(model, student, spec, rank, text.windows, count, progress)
        factors, divergence = visitor.factors, None
        if passes:
            found = teach(
                student, model, {name: _as_learned(pair) for name, pair in factors.items()},
                text.windows, passes, seed=seed, threads=count, progress=progress,
            )  # fmt: skip
            factors = {name: _as_written(pair) for name, pair in found.factors.items()}
            divergence = found.before, found.after
    given.write(out, factors)
    return RepairReport(
        out, rank, visitor.errors, divergence, int(text.windows.size), _bytes(out),
        time.perf_counter() - began,
    )  # fmt: skip


#: L (m, r) and R (r, n) of a matrix.
Pair: TypeAlias = tuple[NDArray[np.float16], NDArray[np.float16]]
#: Those of matrices, by name.
Pairs: TypeAlias = Mapping[str, Pair]


def _as_learned(pair: Pair) -> adapter.Factors:
    left, right = (side.astype(np.float32) for side in pair)
    return adapter.Factors(right, np.ascontiguousarray(left.T))


def _as_written(pair: adapter.Factors) -> Pair:
    down, up = (side.astype(np.float16) for side in pair)
    return np.ascontiguousarray(up.T), down


class _Given(NamedTuple):
    """What is repaired: how it is decoded to a directory, and how its adapter is written."""

    decode: Callable[[Path], Path]
    write: Callable[[Path, Pairs], object]


def _is_gguf(file: Path | str) -> bool:
    return str(file).endswith(".gguf") or Path(file).is_file()


def _gguf_file(file: Path | str, model: Model) -> _Given:
    rules = GgufModel.of(model, gguf_package())
    architecture = str(Source.open(Path(file)).fields["general.architecture"])
    if architecture != rules.written.architecture:
        raise SpecError(
            f"{file} is a {architecture}, and the original would be a {rules.written.architecture}"
        )

    def write(out: Path, pairs: Pairs) -> None:
        factors = [
            Factors(rules.names[name], _ordered(left, rules.order(name)), right)
            for name, (left, right) in pairs.items()
        ]
        write_adapter(out, architecture, factors)

    return _Given(lambda target: import_gguf(file, target), write)


def _directory(file: Path | str, model: Model) -> _Given:
    folder, names = local_model(file), peft.names_of(model)

    def write(out: Path, pairs: Pairs) -> None:
        factors = {
            name: adapter.Factors(right, np.ascontiguousarray(left.T))
            for name, (left, right) in pairs.items()
        }
        peft.write_adapter(out, factors, names, str(file))

    return _Given(lambda target: import_quantised(folder, target), write)


def _bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)


def _check_alike(model: Model, student: Model, file: Path) -> None:
    """Both have the same matrices."""
    for name in model.tensors.read:
        known = student.source.shape(name) if student.source.has(name) else None
        if known != model.source.shape(name):
            raise SpecError(
                f"{file}: {name} has the shape {known}, and {model.source.shape(name)} in the "
                "original: give the model that the file was made from"
            )


def _run(
    model: Model,
    student: Model,
    spec: CompressSpec,
    rank: int,
    windows: NDArray[np.integer],
    threads: int,
    progress: Progress,
) -> _Repairer:
    stacks = dict(zip(map(id, model.stacks), student.stacks, strict=True))

    def start(stack: Stack, chunks: Sequence[NDArray[Any]], given: Given) -> Streams:
        own = start_stream(stacks[id(stack)], chunks, threads, given.student)
        return Streams(own, start_stream(stack, chunks, threads, given.original))

    with progress.bar("repair", len(model.tensors.matrices), "matrix") as advance:
        visitor = _Repairer(student, spec, rank, advance)
        walk_stacks(model, TextExamples(windows).inputs, start, visitor, threads)
    return visitor


@dataclass
class _Repairer(EveryBlock):
    """The visitor that fits L R to what Q lacks; ``factors`` and ``errors`` are what it finds."""

    student: Model
    spec: CompressSpec
    rank: int
    advance: Callable[..., object]
    factors: dict[str, Pair] = field(default_factory=dict)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Fit the matrices of a site."""
        (problem,) = site_problems(at, self.spec)
        H, adapted = problem.metric.H, {}

        def solve(key: str) -> tuple[F32, Any, tuple[float, float]]:
            W, Q = at.weight(key), self.student.source.dense(at.tensors[key])
            target = problem.targets[key]
            A = (W if target is None else target) - Q
            pair = fit_factors(
                A, H, min(self.rank, *A.shape), _FACTOR_BITS,
                iterations=_ITERATIONS, seed=self.spec.decompose.seed,
            )  # fmt: skip
            energy = proxy_loss(Q + A, H)
            lost = [np.sqrt(max(x, 0.0) / energy) if energy > 0 else 0.0
                    for x in (proxy_loss(A, H), pair.loss)]  # fmt: skip
            return Q + pair.product(), pair, (float(lost[0]), float(lost[1]))

        solved = ordered_map(solve, at.site.linears, problem.at_once)
        for key, (weight, pair, lost) in zip(at.site.linears, solved, strict=True):
            name = at.tensors[key]
            self.factors[name] = (np.ascontiguousarray(pair.left.words.T), pair.right.words)
            self.errors[name] = lost
            adapted[key] = replaced(at.dense, key, weight)
            self.advance()
        return adapted


def _ordered(left: NDArray[np.float16], order: NDArray[np.intp] | None) -> NDArray[np.float16]:
    return left if order is None else left[order]
