"""Blocks that declare what no Llama does: the compiled loops do what the operations say."""

import copy
import dataclasses

import numpy as np
import pytest
from engine_checks import assert_close, on_15_bits
from op_blocks import (
    CASES,
    DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    WIDE,
    bare,
    linear,
    norm,
    tail,
    windows,
)
from op_expert_blocks import EXPERT_CASES, STATE_CASES, mixture
from packed_models import packed_model

from lrc.errors import SpecError
from lrc.nn.cache import KVCache
from lrc.nn.engine import prompt as prompt_engine
from lrc.nn.engine import prompt_program, stage_calls
from lrc.nn.engine.decode_program import DecodeProgram
from lrc.nn.engine.engines import Engines
from lrc.nn.engine.program import Program
from lrc.nn.engine.team import Team
from lrc.nn.ops import (
    LOGITS,
    STREAM,
    Add,
    Attend,
    Gate,
    Multiply,
    Norm,
    Op,
    Pass,
    Rotate,
    Split,
    new_cache,
    run,
)
from lrc.nn.rope import Rope
from lrc.nn.routing import Route
from lrc.testing.ops import run_ops
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.engine import table, token
from lrc_kernels.simd import paths as simd_paths

TOKENS = 45


@pytest.fixture(autouse=True)
def _prompt_engine_on_every_path(monkeypatch):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])


def start():
    return np.random.default_rng(9).standard_normal((TOKENS, HIDDEN)).astype(np.float32)


def cache(batch=1, dim=DIM):
    return KVCache(4, batch, KV_HEADS, TOKENS, dim)


def cache_of(ops):
    return new_cache(ops, 1, TOKENS)


def decoded(engines, threads, kept=None):
    engine, kept = engines.decode(Team(threads)), cache() if kept is None else kept
    on_15_bits(engine)
    return np.stack([engine.step(row, kept).copy() for row in start()])


@pytest.mark.parametrize("cap", [0.0, 1.5])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", [*CASES, *EXPERT_CASES, *STATE_CASES])
def test_tokens(case, bias, cap):
    body, end = case(), tail(bias=bias, cap=cap)
    engines, ops = Engines(HIDDEN, body, end), [*body, *end]
    assert engines.runs_on == "compiled engine"
    one = decoded(engines, 1, cache_of(ops))
    assert_close(one, run_ops(ops, start())[LOGITS], 2.0**-4)
    for threads in (2, 3):
        np.testing.assert_array_equal(decoded(engines, threads, cache_of(ops)), one)


@pytest.mark.parametrize("case", [*CASES, *EXPERT_CASES, *STATE_CASES])
def test_prompts(case):
    ops = case()
    engines = Engines(HIDDEN, ops, tail())
    found = {}
    for threads in (1, 2, 3):
        kept = cache_of(ops)
        for part in (start()[:34], start()[34:]):
            found[threads] = engines.prompt(Team(threads)).advance(part, kept).copy()
    assert_close(found[1][None], run_ops(ops, start())[STREAM][-1:])
    np.testing.assert_array_equal(found[2], found[1])
    np.testing.assert_array_equal(found[3], found[1])


@pytest.mark.parametrize("case", [*CASES, *EXPERT_CASES])
def test_batches(case):
    """Sequences of several lengths go on together as each would alone."""
    ops, rows, lengths = case(), start(), (1, 40, 7)
    engines = Engines(HIDDEN, ops, tail())

    def after(*numbers, threads=1):
        caches = [cache_of(ops) for _ in numbers]
        for i, kept in zip(numbers, caches, strict=True):
            engines.prompt(Team(1)).advance(rows[i : i + lengths[i]], kept)
        engine, found = engines.batch(Team(threads)), []
        for step in range(3):
            now = np.stack([rows[i + lengths[i] + step] for i in numbers])
            found.append(engine.step(now, caches).copy())
        assert [kept.length for kept in caches] == [lengths[i] + 3 for i in numbers]
        return np.stack(found, axis=1)

    together = after(0, 1, 2)
    for i, length in enumerate(lengths):
        alone = engines.prompt(Team(1)).outputs(rows[i : i + length + 3], cache_of(ops))
        assert_close(together[i], alone[-3:])
        np.testing.assert_array_equal(after(i)[0], together[i])
    np.testing.assert_array_equal(after(2, 1, 0, threads=3)[::-1], together)


@pytest.mark.parametrize("case", STATE_CASES)
def test_states_are_not_batched(case):
    assert Engines(HIDDEN, case(), tail()).batch(Team(1)) is None


@pytest.mark.parametrize("chunk", [1, 6, 44])
@pytest.mark.parametrize("case", [*EXPERT_CASES, *STATE_CASES])
def test_prompts_of_experts_and_states_may_be_cut_anywhere(monkeypatch, case, chunk):
    body = case()
    engines = Engines(HIDDEN, body, tail())
    whole = engines.prompt(Team(1)).advance(start(), cache_of(body)).copy()
    monkeypatch.setattr(prompt_engine, "CHUNK", chunk)
    monkeypatch.setattr(stage_calls, "CALL", 3 * chunk)
    found = engines.prompt(Team(2)).advance(start(), cache_of(body))
    np.testing.assert_array_equal(found, whole)


def done(ops, rng):
    """Rows in the order they are done, for some choice of experts."""
    r = 0
    while r < len(ops):
        yield ops[r]
        left_out = ops[r][table.CODE] == table.SKIP and rng.random() < 0.5
        r += 1 + left_out * ops[r][table.COUNT]


@pytest.mark.parametrize("case", [*CASES, *EXPERT_CASES, *STATE_CASES])
def test_threads_meet_where_they_need_each_other(case):
    """Between a thread's part of a shared buffer and what others do with it lies a meeting."""
    program = DecodeProgram(Program(HIDDEN, case(), tail()))
    shared = {i for i, b in enumerate(program.buffers, token.BUFFERS) if b.shared}
    rng = np.random.default_rng(3)
    for _ in range(20 if case in EXPERT_CASES else 1):
        written, read = set(), set()
        for row in done(program.ops, rng):
            operands = (table.SOURCE, table.KEYS, table.VALUES, table.OUTPUTS)
            reads, writes = {row[i] for i in operands} & shared, {row[table.TARGET]} & shared
            if row[table.CODE] == table.MULTIPLY:
                writes = {row[table.TARGET] + i for i in range(row[table.COUNT])}
            if row[table.CODE] == table.BARRIER:
                written, read = set(), set()
                continue
            assert not written & (reads | writes)
            assert not read & writes
            written |= writes
            read |= reads


def test_weights_of_other_experts_are_not_looked_at():
    """With none at their addresses, a token that does not need them has the same logits."""
    body = mixture()
    engines = Engines(HIDDEN, body, tail())
    engine, rows = engines.decode(Team(1)), start()
    for position in range(5):
        expected = engine.step(rows[position], cache_of(body)).copy()
        program = copy.copy(engine._program)
        shares = run_ops(body, rows[position : position + 1])["routing"]
        program.mats = program.mats.copy()
        # Its last block's routing is what is left of that name.
        last = max(i for i, op in enumerate(body) if isinstance(op, Route))
        first = program.source.first_matrix(last + 2)
        for expert in np.flatnonzero(shares[0] == 0):
            program.mats[first + 3 * expert : first + 3 * expert + 3, product.CODES] = 0
        other = copy.copy(engine)
        other._program, other._scratch = program, None
        np.testing.assert_array_equal(other.step(rows[position], cache_of(body)), expected)


@pytest.mark.parametrize("case", STATE_CASES)
def test_states_go_on_from_those_of_the_blocks(case):
    """Tokens as a prompt, then by one way or the other; and tokens that are run again."""
    body, end, rows = case(), tail(), start()
    engines, kept = Engines(HIDDEN, body, end), cache_of(body)
    engine, expected = engines.decode(Team(2)), run_ops([*body, *end], rows)[LOGITS]
    on_15_bits(engine)
    engines.prompt(Team(2)).advance(rows[:4], kept)
    for t, row in enumerate(rows[4:16], 4):
        if t % 3 == 0:
            values = {STREAM: row[None, None]}
            found = run([*body, *end], values, Pass(np.arange(t, t + 1), kept))[LOGITS][0, 0]
            kept.advance(1)
        else:
            before = kept.branch()
            first = engine.step(row, kept).copy()
            kept.adopt(before)
            found = engine.step(row, kept).copy()
            np.testing.assert_array_equal(found, first)
        assert_close(found[None], expected[t : t + 1], 2.0**-4)


def test_a_llama_block_meets_five_times():
    model = packed_model()
    rows = model.engines().decode(Team(1))._program.ops
    blocks, (head,) = len(model.blocks), (1,)
    assert np.count_nonzero(rows[:, table.CODE] == table.BARRIER) == 5 * blocks - 1 + head


class Other(Op):
    name = "other"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (Other(), "other"),
        (Gate("y", "y", "swish"), "gate swish"),
        (Norm(np.ones(1, np.float32), "y", "y", 1e-5, "batch"), "batch norm"),
    ],
)
def test_other_operations_are_left_to_numpy(extra, reason):
    engines = Engines(HIDDEN, [*bare(), extra], tail())
    assert engines.decode(Team(1)) is None
    assert engines.prompt(Team(1)) is None
    assert engines.runs_on.startswith("NumPy blocks (")
    assert reason in engines.runs_on


def test_prompts_of_other_codes_are_left_to_numpy():
    ops = (Multiply((linear(HIDDEN, HIDDEN, 1, codebook=("e8p", 2)),), STREAM, ("y",)), Add("y"))
    assert Engines(HIDDEN, ops, tail()).runs_on == "compiled engine, prompts in NumPy blocks"


@pytest.mark.parametrize(
    "op",
    [
        norm(STREAM, "x", HIDDEN - 5),
        Multiply((linear(HIDDEN, WIDE, 1),), STREAM, ("y",)),
        Rotate(STREAM, Rope(HIDDEN - 2)),
        Attend(STREAM, STREAM, STREAM, "y", 0, HEADS, KV_HEADS, HIDDEN // HEADS),
        Gate("wide", STREAM),
        Add("wide"),
        Rotate(STREAM, Rope(16), 8),
        Split("wide", ("a", "b"), (WIDE, 1)),
        Split("wide", ("a", "wide"), (WIDE // 2, WIDE // 2)),
    ],
)
def test_widths_that_do_not_fit_are_errors(op):
    wide = Multiply((linear(WIDE, HIDDEN, 2),), STREAM, ("wide",))
    with pytest.raises(ValueError, match="does not fit"):
        Program(HIDDEN, [wide, op], tail())


@pytest.mark.parametrize("kept", [cache(2), cache(dim=DIM // 2)], ids=["two", "narrow"])
def test_caches_of_others_are_refused(kept):
    engines = Engines(HIDDEN, windows(), tail())
    with pytest.raises(SpecError, match="cache"):
        engines.decode(Team(1)).step(start()[0], kept)
    with pytest.raises(SpecError, match="cache"):
        engines.prompt(Team(1)).advance(start(), kept)


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Add("y").source = "z"
