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
from lrc.models.base import Model
from lrc.models.tensors import EMBEDDING, HEAD, weight_of
from lrc.pipeline.forecast.shapes import is_of_expert
from lrc.pipeline.site import SIDE_BY_SIDE
from lrc.spec import AllocationSpec, CompressSpec

#: Of the process with its libraries and compiled loops, and of a tokenizer over its file.
BASE, TOKENIZER = 205 << 20, 12.5
#: Arrays of the size of a matrix, in float32, that are there while it is solved.
SOLVING = 9.0
#: Arrays of the size of a chunk's widest values while it passes a site.
PASSING = 3.0
#: Arrays of the size of a chunk of a table's rows while they are rounded.
ROUNDING = 7.0
_CHUNK_ROWS = 4096
_F32, _F64 = 4, 8


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
    activations = _activations(model, spec) if ways[chosen].spooled else 0
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
    peaks = [*_text(model, spec), *_tables(model, spec), *_sites(model, spec, way)]
    if spec.takes_gradients:
        peaks.append(_gradients(model, spec))
    if allocation is not None:
        heldout = allocation.heldout_windows * allocation.heldout_tokens
        logits = _F32 * 3 * min(heldout, CHUNK_TOKENS) * model.vocab_size
        peaks.append(Peak(logits + _block_bytes(model), "measuring what matrices are worth"))
    best = max(peaks, key=_bytes)
    tokenizer = model.source.path / "tokenizer.json"
    read = int(TOKENIZER * tokenizer.stat().st_size) if tokenizer.is_file() else 0
    return Peak(BASE + read + best.bytes, best.what)


def tokens_of(model: Model, spec: CompressSpec) -> int:
    """Tokens of calibration, where all windows that are asked for can be had."""
    windows = 1 if spec.calibration.imatrix else spec.calibration.nsamples
    return windows * window_length(spec.calibration, model.context)


def _streams(spec: CompressSpec) -> int:
    """How many run: the original's too where it enters targets."""
    calibration = spec.calibration
    wanted = calibration.mix > 0 or calibration.repair > 0 or spec.distil.epochs > 0
    return 2 if wanted and calibration.streams != "original" else 1


def _activations(model: Model, spec: CompressSpec) -> int:
    """Bytes of all streams: the residual stream, and the widest of what else sites read."""
    widest = max(n for _, n in _shapes(model))
    wide = model.hidden_size + max(widest, model.hidden_size)
    return _F32 * _streams(spec) * tokens_of(model, spec) * wide


def _shapes(model: Model) -> list[tuple[int, int]]:
    found = (model.tensors.shape(weight_of(name)) for name in model.tensors.matrices)
    return [(m, n) for m, n in found]


def _block_bytes(model: Model) -> int:
    """Of the largest block, as float32."""
    blocks: dict[int, int] = {}
    for name, matrix in model.tensors.matrices.items():
        size = math.prod(model.tensors.shape(weight_of(name)))
        blocks[matrix.block] = blocks.get(matrix.block, 0) + size
    return _F32 * max(blocks.values())


def _text(model: Model, spec: CompressSpec) -> Iterator[Peak]:
    """Where the model writes: all of its weights are mapped, and keys and values are kept."""
    written = spec.calibration.window_counts().written
    if not written or spec.calibration.imatrix:
        return
    length = window_length(spec.calibration, model.context)
    cache = min(CACHE_BYTES, written * model.new_cache(1, max(length - 1, 1)).nbytes)
    logits = _F32 * 2 * written * model.vocab_size
    stored = model.source.nbytes if isinstance(model.source, Checkpoint) else 0
    yield Peak(cache + logits + stored, _WRITING)


def _tables(model: Model, spec: CompressSpec) -> Iterator[Peak]:
    """Where a table is rounded: it, its codes, a chunk of its rows, and the head's metric."""
    tables = model.tensors.tables
    head = tables.get(HEAD, tables[EMBEDDING])
    for name in tables.values():
        rows, n = model.tensors.shape(name)
        part = min(rows, _CHUNK_ROWS)
        found = _F32 * rows * n + int(ROUNDING * _F32 * part * n) + rows * n
        metric = 2 * _F32 * n * n if name == head else 0
        yield Peak(found + metric, f"rounding {name}")
    n = model.tensors.shape(head)[1]
    wide = _F32 if is_wide(n) else _F64
    drawn = min(max(LEAST_TOKENS, TOKENS_A_CHANNEL * n), tokens_of(model, spec))
    yield Peak((3 * wide + 2 * _F32) * n * n + 2 * _F32 * drawn * n, f"the moment of {head}")


def _gradients(model: Model, spec: CompressSpec) -> Peak:
    """A block's values, its weights and their gradients, forward and back."""
    widest = max(max(shape) for shape in _shapes(model))
    tokens = min(spec.metric.tokens, tokens_of(model, spec))
    outputs = sum(m for m, _ in _shapes(model)) // model.tensors.blocks
    values = _F32 * tokens * (model.hidden_size * model.tensors.blocks + 2 * outputs)
    return Peak(values + 2 * _block_bytes(model) + _F32 * widest**2, "taking gradients")


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
    streams, tokens = _streams(spec), tokens_of(model, spec)
    wide = model.hidden_size + max(n for _, n in _shapes(model))
    windows = window_length(spec.calibration, model.context)
    chunk = min(max(CHUNK_TOKENS // windows, 1) * windows, tokens)
    there = packed + (0 if way.spooled else _activations(model, spec))
    if way.spooled:
        there += _F32 * streams * chunk * wide * way.threads
    if spec.distil.epochs:
        there += 2 * _F32 * 2 * tokens * model.hidden_size
    for site in sorted(_distinct_sites(model, spec), key=lambda site: site.name):
        weights = _F32 * sum(site.rows) * site.n
        passing = int(_F32 * PASSING * way.threads * chunk * (sum(site.rows) + site.n))
        yield Peak(there + 2 * weights + passing, f"passing {site.name}")
        for step, size in _steps(site, model, spec, way, tokens, streams, chunk):
            yield Peak(there + weights + size, f"{step} at {site.name}")


def _packed_block(model: Model, spec: CompressSpec) -> int:
    """Bytes of codes of a block that is under way, about."""
    bits = max(spec.decompose.quant.bits, *(m.quant.bits for m in spec.matrices.values()), 2)
    return _block_bytes(model) * bits // 32


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
    square, item = n * n, _F32 if is_wide(n) else _F64
    largest = _F32 * max(rows) * n
    at_once = min(way.threads, len(rows)) if way.side_by_side else 1
    if max(rows) * n > SIDE_BY_SIDE:
        at_once = 1
    targets = _F32 * sum(rows) * n if two else 0
    few = not site.expert and rows_are_few(tokens, n)
    gap = model.hidden_size * n if two and spec.calibration.repair > 0 else 0
    if few:
        kept_rows = _F32 * tokens * n
        yield "the rows of tokens", 2 * streams * kept_rows
        yield "the metric", (3 + streams) * kept_rows + _F32 * gap
        solving = 3 * kept_rows
    else:
        products = 0 if is_wide(n) else _F32 * way.threads * ((1 + two) * square + gap)
        sums = item * ((1 + two) * square + gap)
        yield "the moments", sums + products
        yield "the metric", sums + (2 * _F32 + item) * square + square
        kept = 2 * _F32 * square + (2 * item * square if two else 0)
        yield "the targets", kept + targets + (largest if not is_wide(n) else 0)
        if gap:
            yield "the correction", 2 * _F32 * square + item * (square + 2 * gap) + targets
        solving = 2 * _F32 * square
    replaced = _F32 * sum(rows) * n  # what the student runs from here on
    solve = int(SOLVING * largest * at_once)
    yield "solving", solving + targets + replaced - largest + solve
