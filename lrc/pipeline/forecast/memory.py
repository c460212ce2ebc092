"""How much memory a compression takes, and how it can take less: from shapes, before any work.

The peak is that of the operating system's count, mapped pages of files among it. It is looked for
site by site, in the steps that `lrc.pipeline.site` takes there; arrays are counted by the code that
makes them, and what lies under them by runs of SmolLM2-135M and of blocks of random weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lrc.calibrate.corpus import window_length
from lrc.calibrate.head_moment import LEAST_TOKENS, TOKENS_A_CHANNEL
from lrc.calibrate.self_text import CACHE_BYTES
from lrc.calibrate.streams import CHUNK_TOKENS
from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.linalg.precision import is_wide
from lrc.linalg.row_moment import rows_are_few
from lrc.measure.self_test import ROWS
from lrc.models.base import Model
from lrc.models.tensors import EMBEDDING, HEAD, weight_of
from lrc.pipeline.forecast.counts import (
    F32,
    activations_of,
    block_bytes,
    shapes_of,
    streams_of,
    tokens_of,
)
from lrc.pipeline.forecast.shapes import is_of_expert
from lrc.pipeline.site import SIDE_BY_SIDE
from lrc.spec import AllocationSpec, CompressSpec

#: Of the process with its libraries and compiled loops, and of a tokenizer over its file: there are
#: two while the copied one is compared, and the heap stays as large.
BASE, TOKENIZER = 190 << 20, 12.5
_TOKENIZERS = 2
#: Arrays of the size of a matrix, in float32, that are there while it is solved, and while L R are
#: fitted beside Q.
SOLVING, FITTING = 5.5, 8.0
#: Arrays of the size of a chunk's widest values while it passes a site.
PASSING = 3.0
#: Arrays of the size of a chunk of a table's rows while they are rounded.
ROUNDING = 7.0
_CHUNK_ROWS = 4096
_F64 = 8


@dataclass(frozen=True)
class Way:
    """How memory is used; none of it changes a byte of the result.

    ``spooled``: activations lie on disk. ``side_by_side``: small matrices are solved together.
    ``threads`` that work at the same time.
    """

    spooled: bool = False
    side_by_side: bool = True
    threads: int = 1


@dataclass(frozen=True)
class Peak:
    """So many bytes, while ``what`` is done."""

    bytes: int
    what: str


@dataclass(frozen=True)
class MemoryPlan:
    """The way that is taken, its ``peak``, and what it puts on disk while it works.

    ``least`` is the peak of the way that takes least.
    """

    way: Way
    peak: Peak
    least: Peak
    spooled_bytes: int


def memory_plan(
    model: Model,
    spec: CompressSpec,
    allocation: AllocationSpec | None,
    threads: int,
    ram: int | None = None,
) -> MemoryPlan:
    """The first way, fastest first, whose peak is within ``ram`` bytes.

    Raises
    ------
    SpecError
        There is none: saying what is possible, and what to do.
    """
    ways = [Way(False, True, threads), Way(True, True, threads), Way(True, False, threads)]
    ways += [Way(True, False, 1)] if threads > 1 else []
    peaks = [_peak(model, spec, allocation, way) for way in ways]
    chosen = 0
    if ram is not None:
        fitting = [i for i, peak in enumerate(peaks) if peak.bytes <= ram]
        if not fitting:
            raise SpecError(_out_of_reach(ram, min(peaks, key=_bytes), spec))
        chosen = fitting[0]
    activations = activations_of(model, spec) if ways[chosen].spooled else 0
    return MemoryPlan(ways[chosen], peaks[chosen], min(peaks, key=_bytes), activations)


def _bytes(peak: Peak) -> int:
    return peak.bytes


def _out_of_reach(ram: int, least: Peak, spec: CompressSpec) -> str:
    """What to do where nothing keeps to a ceiling."""
    written = spec.calibration.window_counts().written > 0 and least.what == _WRITING
    remedy = (
        "give text with --calib FILE, or --shipped 1, so that the model need not write any"
        if written
        else "or fewer windows of text with --nsamples"
    )
    need = math.ceil(10 * least.bytes / 2**30) / 10
    return (
        f"--ram {ram / 2**30:.3g}G is out of reach: {least.what} takes about {need:.1f}G, with "
        f"activations on disk and one matrix at a time; give --ram {need:.1f}G or more, {remedy}"
    )


_WRITING = "the model writing text to calibrate on"


def _peak(model: Model, spec: CompressSpec, allocation: AllocationSpec | None, way: Way) -> Peak:
    """The largest of all steps."""
    peaks = [*_text(model, spec), *_tables(model, spec), *_ends(model, spec, way)]
    peaks += _sites(model, spec, way)
    if spec.takes_gradients:
        peaks.append(_gradients(model, spec))
    if allocation is not None:
        heldout = allocation.heldout_windows * allocation.heldout_tokens
        logits = F32 * 3 * min(heldout, CHUNK_TOKENS) * model.vocab_size
        peaks.append(Peak(logits + block_bytes(model), "measuring what matrices are worth"))
    best = max(peaks, key=_bytes)
    tokenizer = model.source.path / "tokenizer.json"
    read = int(_TOKENIZERS * TOKENIZER * tokenizer.stat().st_size) if tokenizer.is_file() else 0
    return Peak(BASE + read + best.bytes, best.what)


def _text(model: Model, spec: CompressSpec) -> Iterator[Peak]:
    """Where the model writes: all of its weights are mapped, and keys and values are kept."""
    written = spec.calibration.window_counts().written
    if not written or spec.calibration.imatrix:
        return
    length = window_length(spec.calibration, model.context)
    cache = min(CACHE_BYTES, written * model.new_cache(1, max(length - 1, 1)).nbytes)
    logits = F32 * 2 * written * model.vocab_size
    stored = model.source.nbytes if isinstance(model.source, Checkpoint) else 0
    yield Peak(cache + logits + stored, _WRITING)


def _tables(model: Model, spec: CompressSpec) -> Iterator[Peak]:
    """Where a table is rounded: it, its codes, a chunk of its rows, and the head's metric."""
    tables = model.tensors.tables
    head = tables.get(HEAD, tables[EMBEDDING])
    for name in tables.values():
        rows, n = model.tensors.shape(name)
        part = min(rows, _CHUNK_ROWS)
        found = F32 * rows * n + int(ROUNDING * F32 * part * n) + rows * n
        metric = 2 * F32 * n * n if name == head else 0
        yield Peak(found + metric, f"rounding {name}")
    n = model.tensors.shape(head)[1]
    wide = F32 if is_wide(n) else _F64
    drawn = min(max(LEAST_TOKENS, TOKENS_A_CHANNEL * n), tokens_of(model, spec))
    yield Peak((3 * wide + 2 * F32) * n * n + 2 * F32 * drawn * n, f"the moment of {head}")


def _ends(model: Model, spec: CompressSpec, way: Way) -> Iterator[Peak]:
    """Where streams are started, and the self-test: a table in float32 beside stored and coded."""
    tables = model.tensors.tables
    residual = 0 if way.spooled else F32 * streams_of(spec) * tokens_of(model, spec)
    for what, name, beside in (
        ("starting the streams", tables[EMBEDDING], residual * model.hidden_size),
        ("the self-test", tables.get(HEAD, tables[EMBEDDING]), 3 * F32 * ROWS * model.vocab_size),
    ):
        weights = math.prod(model.tensors.shape(name))
        stored = model.source.stored_bytes(name) if isinstance(model.source, Checkpoint) else 0
        yield Peak(F32 * weights + stored + weights + beside, what)


def _gradients(model: Model, spec: CompressSpec) -> Peak:
    """A block's values, its weights and their gradients, forward and back."""
    widest = max(max(shape) for shape in shapes_of(model))
    tokens = min(spec.metric.tokens, tokens_of(model, spec))
    outputs = sum(m for m, _ in shapes_of(model)) // model.tensors.blocks
    values = F32 * tokens * (model.hidden_size * model.tensors.blocks + 2 * outputs)
    return Peak(values + 2 * block_bytes(model) + F32 * widest**2, "taking gradients")


@dataclass(frozen=True)
class _Site:
    """What the matrices of a site have in common: ``n`` inputs, and their ``rows``."""

    name: str
    n: int
    rows: tuple[int, ...]
    expert: bool
    packed: int


def _distinct_sites(model: Model, spec: CompressSpec) -> set[_Site]:
    """Sites by shape; equal ones count once."""
    found: dict[tuple[int, str], list[str]] = {}
    for name, matrix in model.tensors.matrices.items():
        found.setdefault((matrix.block, matrix.site), []).append(name)
    sites = set()
    for names in found.values():
        matrix = model.tensors.matrices[names[0]]
        shapes = [model.tensors.shape(weight_of(name)) for name in names]
        place = matrix.site.rpartition(".")[0] if is_of_expert(matrix) else matrix.site
        sites.add(_Site(place, shapes[0][1], tuple(m for m, _ in shapes), is_of_expert(matrix), 0))
    return sites


def _sites(model: Model, spec: CompressSpec, way: Way) -> Iterator[Peak]:
    """Every step at every site, with what lies there meanwhile."""
    packed = _packed_block(model, spec)
    streams, tokens = streams_of(spec), tokens_of(model, spec)
    wide = model.hidden_size + max(n for _, n in shapes_of(model))
    windows = window_length(spec.calibration, model.context)
    chunk = min(max(CHUNK_TOKENS // windows, 1) * windows, tokens)
    there = packed + (0 if way.spooled else activations_of(model, spec))
    if way.spooled:
        there += F32 * streams * chunk * wide * way.threads
    if spec.distil.epochs:
        there += 2 * F32 * 2 * tokens * model.hidden_size
    for site in sorted(_distinct_sites(model, spec), key=lambda site: site.name):
        weights = F32 * sum(site.rows) * site.n
        passing = int(F32 * PASSING * way.threads * chunk * (sum(site.rows) + site.n))
        yield Peak(there + 2 * weights + passing, f"passing {site.name}")
        for step, size in _steps(site, model, spec, way, tokens, streams, chunk):
            yield Peak(there + weights + size, f"{step} at {site.name}")


def _packed_block(model: Model, spec: CompressSpec) -> int:
    """Bytes of codes of a block that is under way, about."""
    bits = max(spec.decompose.quant.bits, *(m.quant.bits for m in spec.matrices.values()), 2)
    return block_bytes(model) * bits // 32


def _steps(
    site: _Site,
    model: Model,
    spec: CompressSpec,
    way: Way,
    tokens: int,
    streams: int,
    chunk: int,
) -> Iterator[tuple[str, int]]:
    """The moments, their metric, targets, and solving: what each takes beside the weights."""
    n, rows = site.n, site.rows
    two = streams == 2
    square, item = n * n, F32 if is_wide(n) else _F64
    largest = F32 * max(rows) * n
    at_once = min(way.threads, len(rows)) if way.side_by_side else 1
    if max(rows) * n > SIDE_BY_SIDE:
        at_once = 1
    targets = F32 * sum(rows) * n if two else 0
    few = not site.expert and rows_are_few(tokens, n)
    gap = model.hidden_size * n if two and spec.calibration.repair > 0 else 0
    if few:
        kept_rows = F32 * tokens * n
        yield "the rows of tokens", 2 * streams * kept_rows
        yield "the metric", (3 + streams) * kept_rows + F32 * gap
        solving = 3 * kept_rows
    else:
        products = 0 if is_wide(n) else F32 * way.threads * ((1 + two) * square + gap)
        sums = item * ((1 + two) * square + gap)
        yield "the moments", sums + products
        yield "the metric", sums + (2 * F32 + item) * square + square
        kept = 2 * F32 * square + (2 * item * square if two else 0)
        yield "the targets", kept + targets + (largest if not is_wide(n) else 0)
        if gap:
            yield "the correction", 2 * F32 * square + item * (square + 2 * gap) + targets
        solving = 2 * F32 * square
    replaced = F32 * sum(rows) * n  # what the student runs from here on
    low_rank = [spec.decompose.low_rank, *(m.low_rank for m in spec.matrices.values())]
    arrays = FITTING if any(of.rank != 0 for of in low_rank) else SOLVING
    solve = int(arrays * largest * at_once)
    yield "solving", solving + targets + replaced - largest + solve
