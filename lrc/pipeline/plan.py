"""How long a compression will take on this machine, and how much work fits into a time.

A probe measures three speeds: of float32 products, of fitting a small random matrix with the very
parameters, and of rounding rows of a table. The rest is counted. What is chosen is a spec like any
other: it is stored with the model, and gives the same bytes on every machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lrc.base.threads import ordered_map, resolve_threads, single_threaded_blas
from lrc.calibrate.corpus import window_length
from lrc.calibrate.head_moment import LEAST_TOKENS, TOKENS_A_CHANNEL
from lrc.linalg.precision import is_wide
from lrc.linalg.row_moment import LEAST_RATIO, rows_are_few
from lrc.models.base import Model
from lrc.models.tensors import EMBEDDING, HEAD, weight_of
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.nn.linear import DenseLinear
from lrc.quant.table import TableMetric, quantize_table
from lrc.solvers.api import decompose
from lrc.spec import WITH_FEEDBACK, AllocationSpec, CompressSpec, DecomposeSpec

#: Rows of a table that a thread of the probe rounds; those without feedback take about half.
_TABLE_ROWS, _WITHOUT_FEEDBACK = 256, 0.5
#: Side of the matrices that a probe fits, and of those that it multiplies with.
SOLVED, MULTIPLIED = 256, 1024
#: Columns of these products, and how often they are made.
COLUMNS, REPEATS = 64, 16
#: What a token takes, over its products alone, when windows pass through blocks, and when a model
#: writes very many sequences (`bench/self_text.py`); of so many, products run at half the speed.
WALKING, WRITING, FEW_SEQUENCES = 1.4, 1.1, 32
#: Products of a matrix (m, n) with (n, n) that fitting takes beside its sweeps, which are two each:
#: three of solving, and those of a target, which a site that works in float64 pays three times.
_FIT_PRODUCTS, _TARGET_PRODUCTS, _IN_FLOAT64 = 3, 1, 3
#: Multiplications of a site's factors over n^3, in float32 and in float64.
_FACTORS, _FACTORS_IN_FLOAT64 = 1, 8
#: Codebooks that a budget tries on every matrix.
_TRIED_WIDTHS = 3
#: Rows that are coded together, as far as sweeps depend on it: presets have trellises.
_TOGETHER = 256


@dataclass(frozen=True)
class Speeds:
    """Of this machine on all threads, a second.

    Multiplications, weights of matrices that are solved, and weights of tables that are rounded.
    """

    multiplications: float
    weights: float
    table_weights: float


@dataclass(frozen=True)
class Plan:
    """What was chosen, of what, and why.

    ``name`` is that of the effort, ``seconds`` what is expected, and ``fits`` whether that is
    within what was allowed.
    """

    name: str
    spec: CompressSpec
    seconds: float
    fits: bool
    speeds: Speeds


def plan(
    model: Model,
    specs: Mapping[str, CompressSpec],
    seconds: float = math.inf,
    *,
    allocations: Mapping[str, AllocationSpec | None] | None = None,
    beside: float = 0.0,
    threads: int | None = None,
) -> Plan:
    """Choose the last of ``specs`` that is expected to take at most so many seconds.

    Parameters
    ----------
    model : Model
        Its shapes decide; no weight is read.
    specs : mapping
        By name, least work first; where none fits, the first is taken.
    seconds : float
    allocations : mapping, optional
        Budgets that go with them.
    beside : float
        Multiplications of what else is to be done in that time.
    threads : int, optional

    Returns
    -------
    Plan
    """
    budgets, workers = allocations or {}, resolve_threads(threads)
    multiplications = _multiplying_speed(workers)
    least = next(iter(specs))
    for name, spec in reversed(list(specs.items())):
        work = products(model, spec, budgets.get(name)) + beside
        if work > seconds * multiplications and name != least:
            continue  # whatever the speed at which weights are solved
        speeds = Speeds(
            multiplications, _solving_speed(spec.decompose, workers), _table_speed(spec, workers)
        )
        fitting = weights_solved(model, spec, budgets.get(name)) / speeds.weights
        rounding = table_weights_rounded(model, spec) / speeds.table_weights
        expected = work / multiplications + fitting + rounding
        if expected <= seconds or name == least:
            break
    return Plan(name, spec, expected, expected <= seconds, speeds)


def products(model: Model, spec: CompressSpec, allocation: AllocationSpec | None = None) -> float:
    """Multiplications of a compression's products; experts count as if they saw every token."""
    shapes = _shapes(model)
    weights = sum(m * n for m, n in shapes)
    calibration = spec.calibration
    length, written = window_length(calibration, model.context), calibration.window_counts().written
    if calibration.imatrix:  # in the place of text
        written = 0
    tokens = 0 if calibration.imatrix else calibration.nsamples * length
    streams = 1 if calibration.streams == "original" else 2
    found = WALKING * streams * tokens * weights + streams * tokens * _moments(model, tokens)
    if written:
        columns = written + FEW_SEQUENCES
        found += WRITING * columns * length * (weights + head_weights(model))
    found += _of_tables(model, tokens)
    found += _of_fitting(model, spec, tokens)
    if allocation is not None:
        heldout = allocation.heldout_windows * allocation.heldout_tokens
        found += pass_products(model, allocation.passes * heldout)
    return found


def _of_tables(model: Model, tokens: int) -> float:
    """Of the states that the head's metric is of, and of rounding it in that."""
    tables = model.tensors.tables
    rows, n = model.tensors.shape(tables.get(HEAD, tables[EMBEDDING]))
    drawn = min(max(LEAST_TOKENS, TOKENS_A_CHANNEL * n), tokens)
    blocks = sum(m * k for m, k in _shapes(model))
    return WALKING * drawn * blocks + 2.0 * rows * n * max(n - SOLVED, 0) + n**3


def weights_solved(
    model: Model, spec: CompressSpec, allocation: AllocationSpec | None = None
) -> float:
    """Weights that are solved; those that a budget tries are rounded once each, without sweeps."""
    weights = float(sum(m * n for m, n in _shapes(model)))
    passes = 1 + spec.decompose.sweeps_of(_TOGETHER)
    tried = _TRIED_WIDTHS / passes if allocation is not None else 0.0
    return weights * (1 + tried)


def table_weights_rounded(model: Model, spec: CompressSpec) -> float:
    """Weights of tables that are rounded, those without feedback at what they take beside others.

    Only the table that is the head, tied or not, has feedback.
    """
    tables, found = model.tensors.tables, 0.0
    roles = {EMBEDDING: spec.table_bits()[0], HEAD: spec.table_bits()[1]}
    for role, name in tables.items():
        last = role == HEAD or HEAD not in tables
        fed_back = last and spec.decompose.recipe in WITH_FEEDBACK and not spec.calibration.imatrix
        if roles[role] != 16:
            part = 1.0 if fed_back else _WITHOUT_FEEDBACK
            found += part * math.prod(model.tensors.shape(name))
    return found


def pass_products(model: Model, tokens: int) -> float:
    """Multiplications of so many tokens' way through the model, head included."""
    weights = sum(m * n for m, n in _shapes(model))
    return WALKING * tokens * (weights + head_weights(model))


def _shapes(model: Model) -> list[tuple[int, int]]:
    """Of all matrices."""
    found = (model.tensors.shape(weight_of(name)) for name in model.tensors.matrices)
    return [(m, n) for m, n in found]


def _of_fitting(model: Model, spec: CompressSpec, tokens: int) -> float:
    """Of products of matrices with what their sites have of the inputs, and of factoring that."""
    found, sweeps = 0.0, 2 * spec.decompose.sweeps_of(_TOGETHER)
    for m, n in _shapes(model):
        targets = _TARGET_PRODUCTS * (1 if _in_float32(n, tokens) else _IN_FLOAT64)
        side = max(_metric_side(n, tokens) - SOLVED, 0)
        found += (_FIT_PRODUCTS + targets + sweeps) * m * n * side
    for n in _site_inputs(model):
        factors = _FACTORS if _in_float32(n, tokens) else _FACTORS_IN_FLOAT64
        found += factors * _metric_side(n, tokens) ** 3
    return found


def _in_float32(n: int, tokens: int) -> bool:
    """Whether a site of n inputs works on its moments in float32; on few rows it does not."""
    return is_wide(n) and not rows_are_few(tokens, n)


def _metric_side(n: int, tokens: int) -> int:
    """Side of the square metric that products with a site's cost as much as.

    Where rows of few tokens are kept, that is the side from which they cost no more.
    """
    return LEAST_RATIO * tokens if rows_are_few(tokens, n) else n


def _moments(model: Model, tokens: int) -> int:
    """Multiplications a token of the second moments of all sites; none where rows are kept."""
    return sum(n**2 for n in _site_inputs(model) if not rows_are_few(tokens, n))


def _site_inputs(model: Model) -> list[int]:
    """Of every site."""
    tensors = model.tensors
    widths = {
        (matrix.block, matrix.site): tensors.shape(weight_of(name))[1]
        for name, matrix in tensors.matrices.items()
    }
    return list(widths.values())


def head_weights(model: Model) -> int:
    """Of the table that gives logits."""
    tables = model.tensors.tables
    return math.prod(model.tensors.shape(tables.get(HEAD, tables[EMBEDDING])))


def _multiplying_speed(threads: int) -> float:
    """A second, of float32 products that threads share."""
    rng = np.random.default_rng(1)
    linear = DenseLinear(rng.standard_normal((MULTIPLIED, MULTIPLIED), np.float32))
    x = rng.standard_normal((COLUMNS, MULTIPLIED), np.float32)
    execution = Execution(Team(threads))
    with single_threaded_blas():
        linear(x, execution)
        began = time.perf_counter()
        for _ in range(REPEATS):
            linear(x, execution)
    return REPEATS * COLUMNS * MULTIPLIED**2 / (time.perf_counter() - began)


def _solving_speed(spec: DecomposeSpec, threads: int) -> float:
    """Weights a second, of matrices that threads fit side by side as `compress` does."""
    rng = np.random.default_rng(2)
    W = rng.standard_normal((SOLVED, SOLVED), np.float32)
    inputs = rng.standard_normal((2 * SOLVED, SOLVED)) / np.sqrt(1 + np.arange(SOLVED))
    H = inputs.T @ inputs
    magnitudes = np.abs(inputs).mean(axis=0)

    def solve(_: int) -> None:
        decompose(W, H, spec, magnitudes=magnitudes, importances=np.diag(H), threads=1)

    solve(0)  # compiles; in a smaller matrix another codebook might stand in
    began = time.perf_counter()
    for _ in ordered_map(solve, range(threads), threads):
        pass
    return threads * SOLVED**2 / (time.perf_counter() - began)


def _table_speed(spec: CompressSpec, threads: int) -> float:
    """Weights a second, of a table's rows that threads round with feedback."""
    rng = np.random.default_rng(3)
    table = rng.standard_normal((_TABLE_ROWS * threads, SOLVED), np.float32)
    plain = np.eye(SOLVED, dtype=np.float32)
    metric = TableMetric(plain, np.zeros_like(plain), 0.0)
    bits, solver = min(spec.table_bits()[0], 8), spec.decompose

    def rounded() -> None:
        quantize_table(
            table, bits, spec.embed_codebook, rotation=solver.rotation, metric=metric,
            threads=threads,
        )  # fmt: skip

    rounded()  # compiles
    began = time.perf_counter()
    rounded()
    return table.size / (time.perf_counter() - began)
