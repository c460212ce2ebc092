"""Tiles of decoded rows are the rows of the packed matrix, for every codebook."""

import subprocess
import sys

import numpy as np
import pytest
from codebook_cases import ROWWISE, may_group
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import TRELLISES, random_matrix

from lrc.nn.packed import PackedLinear
from lrc.parts.codes import Codes


def test_the_first_use_may_come_from_two_threads():
    """In a process of its own, since tables are built once: rows must not depend on who built."""
    code = (
        "import numpy as np, threading\n"
        "from lrc_kernels.cpu.codes import decode_rows as d\n"
        "codes = np.random.default_rng(7).integers(0, 1 << 16, (64, 512), dtype=np.uint16)\n"
        "one, outs = np.ones(1, np.float32), [np.empty((64, 4096), np.float32) for _ in 'abcd']\n"
        "def work(out): d.decode_rows_lattice(codes, one, 4096, out)\n"
        "threads = [threading.Thread(target=work, args=(out,)) for out in outs]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert all(np.array_equal(outs[0], out) for out in outs)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("codebook", ROWWISE, ids=str)
@given(
    m=st.integers(1, 9),
    n=st.integers(1, 300),
    group=st.sampled_from([0, 16, 64]),
    row_scales=st.booleans(),
    data=st.data(),
)
def test_rows_are_those_of_the_matrix(codebook, m, n, group, row_scales, data):
    grouped = may_group(codebook[0], group)
    matrix = random_matrix((m, n), codebook, group_size=grouped, row_scales=row_scales, rank=0)
    start = data.draw(st.integers(0, m - 1))
    rows = slice(start, data.draw(st.integers(start + 1, m)))
    found = matrix.terms[0].decoded(rows)
    np.testing.assert_allclose(found, matrix.rows(rows), rtol=4e-7, atol=4e-6)


@pytest.mark.parametrize("codebook", TRELLISES, ids=str)
@given(
    m=st.sampled_from([16, 48, 192, 576]),
    n=st.integers(1, 90),
    row_scales=st.booleans(),
    data=st.data(),
)
def test_rows_of_a_trellis_are_those_of_the_matrix(codebook, m, n, row_scales, data):
    matrix = random_matrix((m, n), codebook, row_scales=row_scales, rank=0)
    start = data.draw(st.integers(0, m - 1))
    rows = slice(start, data.draw(st.integers(start + 1, m)))
    found = matrix.terms[0].decoded(rows)
    np.testing.assert_allclose(found, matrix.rows(rows), rtol=4e-7)


@pytest.mark.parametrize(
    "codebook",
    [("e8p", 2), ("e8p-rvq3", 3), ("uniform", 4), ("lloyd-max", 8), ("trellis12", 2)],
)
def test_several_tokens_do_not_take_the_slow_way(codebook, monkeypatch):
    layer = PackedLinear(random_matrix((16, 24), codebook))

    def refuse(*_: object) -> None:
        raise AssertionError("decoded by the plain kernels")

    monkeypatch.setattr(Codes, "rows", refuse)
    layer(np.ones((3, 24), np.float32))
