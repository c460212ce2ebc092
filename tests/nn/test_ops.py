"""Blocks that declare what no Llama does: the compiled loops do what the operations say."""

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
from packed_models import packed_model

from lrc.errors import SpecError
from lrc.nn.cache import KVCache
from lrc.nn.engine import prompt_program
from lrc.nn.engine.decode_program import DecodeProgram
from lrc.nn.engine.engines import Engines
from lrc.nn.engine.program import Program
from lrc.nn.engine.team import Team
from lrc.nn.linear import DenseLinear
from lrc.nn.ops import (
    LOGITS,
    STREAM,
    Add,
    Attend,
    Gate,
    Multiply,
    Norm,
    Op,
    Rotate,
    Split,
)
from lrc.nn.rope import Rope
from lrc.testing.ops import run_ops
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


def decoded(engines, threads):
    engine, kept = engines.decode(Team(threads)), cache()
    on_15_bits(engine)
    return np.stack([engine.step(row, kept).copy() for row in start()])


@pytest.mark.parametrize("cap", [0.0, 1.5])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_tokens(case, bias, cap):
    body, end = case(), tail(bias=bias, cap=cap)
    engines, ops = Engines(HIDDEN, body, end), [*body, *end]
    assert engines.runs_on == "compiled engine"
    one = decoded(engines, 1)
    assert_close(one, run_ops(ops, start())[LOGITS], 2.0**-4)
    for threads in (2, 3):
        np.testing.assert_array_equal(decoded(engines, threads), one)


@pytest.mark.parametrize("case", CASES)
def test_prompts(case):
    ops = case()
    engines = Engines(HIDDEN, ops, tail())
    found = {}
    for threads in (1, 2, 3):
        kept = cache()
        for part in (start()[:34], start()[34:]):
            found[threads] = engines.prompt(Team(threads)).advance(part, kept).copy()
    assert_close(found[1][None], run_ops(ops, start())[STREAM][-1:])
    np.testing.assert_array_equal(found[2], found[1])
    np.testing.assert_array_equal(found[3], found[1])


@pytest.mark.parametrize("case", CASES)
def test_threads_meet_where_they_need_each_other(case):
    """Between a thread's part of a shared buffer and what others do with it lies a meeting."""
    program = DecodeProgram(Program(HIDDEN, case(), tail()))
    shared = {i for i, b in enumerate(program.buffers, token.BUFFERS) if b.shared}
    written, read = set(), set()
    for row in program.ops:
        reads, writes = {row[table.SOURCE]} & shared, {row[table.TARGET]} & shared
        if row[table.CODE] == table.MULTIPLY:
            writes = {row[table.TARGET] + i for i in range(row[table.COUNT])}
        if row[table.CODE] == table.BARRIER:
            written, read = set(), set()
            continue
        assert not written & (reads | writes)
        assert not read & writes
        written |= writes
        read |= reads


def test_a_llama_block_meets_five_times():
    model = packed_model()
    rows = model.engines().decode(Team(1))._program.ops
    blocks, (head,) = len(model.blocks), (1,)
    assert np.count_nonzero(rows[:, table.CODE] == table.BARRIER) == 5 * blocks - 1 + head


class Scan(Op):
    name = "scan"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (Scan(), "scan"),
        (Gate("y", "y", "swish"), "gate swish"),
        (Norm(np.ones(1, np.float32), "y", "y", 1e-5, "batch"), "batch norm"),
        (Multiply((DenseLinear(np.eye(HIDDEN, dtype=np.float32)),), "y", ("y",)), "not packed"),
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
