"""The CUDA sources compiled for the host: their indices and integers, without a device."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lrc.linalg.factor import factor, feedback_matrix
from lrc.quant import get_quantizer
from lrc.quant.ldlq import Grid, block_inverses, ldlq, polish
from lrc.spec import QuantSpec
from lrc_kernels import lattice_tables, trellis_code
from lrc_kernels.backend import get_kernels
from lrc_kernels.gpu import rings
from lrc_kernels.trellis_fixed import hashed_code, nearest_rings, shuffled_code, to_fixed

HEADER = Path(__file__).parents[1] / "cuda_on_host.h"
SOURCES = Path(rings.__file__).parent
COMPILER = shutil.which("g++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ to compile CUDA sources with")
CPU = get_kernels("cpu")


def signature(source, name):
    """Parameters of a kernel, as they are written."""
    return source.split(f"{name}(")[1].split(")")[0]


def built(folder, file, names, **constants):
    """Kernels of a source as functions of (blocks, *arguments)."""
    source = (SOURCES / file).read_text()
    source = source.replace("extern __shared__ __align__(16) unsigned char dynamic[];",
                            "alignas(16) static unsigned char dynamic[1 << 20];")  # fmt: skip
    wrappers = ""
    for name in names:
        given = signature(source, name)
        passed = ", ".join(part.replace("*", " ").split()[-1] for part in given.split(","))
        call = f"launch(blocks, [=] {{ {name}({passed}); }})"
        wrappers += f'extern "C" void run_{name}(int blocks, {given}) {{ {call}; }}\n'
    (folder / "all.cpp").write_text(f'#include "{HEADER}"\n{source}\n{wrappers}')
    defined = [f"-D{key}={value}" for key, value in constants.items()]
    command = [COMPILER, "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w"]
    library = folder / "all.so"
    subprocess.run([*command, *defined, str(folder / "all.cpp"), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))

    def of(name):
        def call(blocks, *arguments):
            getattr(loaded, f"run_{name}")(blocks, *map(as_c, arguments))

        return call

    return [of(name) for name in names]


def as_c(value):
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return value.ctypes.data_as(ctypes.c_void_p)
    return ctypes.c_longlong(value) if isinstance(value, np.int64) else ctypes.c_int(value)


class WholeRings:
    """A trellis without its compiled loops over columns: a polish searches whole rings."""

    columns = None

    def __init__(self, quantizer):
        self.quantizer = quantizer

    def __getattr__(self, name):
        return getattr(self.quantizer, name)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("code", "shared"),
    [(hashed_code(2, 8), 227 << 10), (hashed_code(4, 8), 0), (shuffled_code(2, 10), 9 << 10)],
)
def test_a_ring_is_the_plain_twins(tmp_path, code, shared):
    where = rings.layout(code.bits, code.state_bits, shared)
    (encode,) = built(tmp_path, "rings.cu", ["encode_rings"], **rings.constants(code, where))
    Z, states = normal(7701, 2, 256), np.zeros((2, 256), np.uint16)
    Z[1] *= 30  # differences and costs saturate
    encode(1, Z, code.values, len(Z), np.empty(max(where.work, 1), np.uint8), states)
    np.testing.assert_array_equal(
        states, nearest_rings(to_fixed(Z, code.bits), code.values, code.bits)
    )


@pytest.mark.parametrize("scales", [1, 256])
def test_ldlq_and_polish_of_a_column_panel_are_the_cpus(tmp_path, scales):
    code, m, n = shuffled_code(2, 10), 256, 3
    names = ["ldlq_column_panel", "polish_column_panel"]
    where = rings.layout(2, 10, 227 << 10)
    round_columns, move = built(tmp_path, "rings.cu", names, **rings.constants(code, where))
    W, X = normal(7703, m, n), normal(7705, 9, n).astype(np.float64)
    H = (X.T @ X / 9).astype(np.float32)
    U = feedback_matrix(factor(H.astype(np.float64)).cholesky, 1)
    scale = 1 + 0.2 * np.abs(normal(7707, scales, 1))
    grid = Grid(WholeRings(get_quantizer(QuantSpec("shuffle10", 2), m)), scale)
    expected = ldlq(W, U, grid)
    states, work = np.zeros((n, m), np.uint16), np.empty(1, np.uint8)
    columns = np.ascontiguousarray(W.T)
    values, error = np.empty_like(columns), np.empty_like(columns)
    tables = int(scales > 1), code.values, code.levels, m, 0, n, work
    round_columns(1, columns, columns.copy(), U, scale, *tables, states, values, error)
    np.testing.assert_array_equal(states.T, expected.codes[0][:, :, 0])
    np.testing.assert_array_equal(values.T, expected.values)
    gradient = np.ascontiguousarray(((W - values.T) @ H).T)
    inverse = np.concatenate(block_inverses(H, 1), axis=None)
    moved = np.zeros(1, np.int32)
    move(1, gradient, H, inverse, scale, *tables, states, values, error, moved)
    expected = polish(W, expected, H, grid, 1)
    np.testing.assert_array_equal(states.T, expected.codes[0][:, :, 0])
    np.testing.assert_allclose(error, columns - values, atol=1e-6)
    assert moved[0] > 0


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    names = ["encode_e8p", "encode_e81b", "nearest_level", "pack_bits", "unpack_bits"]
    names += ["decode_trellis", "butterfly_f32", "butterfly_f64"]
    folder = tmp_path_factory.mktemp("codes")
    return dict(zip(names, built(folder, "codes.cu", names, THREADS=32), strict=True))


def blocks(count):
    return -(-count // 32), np.int64(count)


@pytest.mark.parametrize("sigma", [0.5, 1.03, 2.5, None])
def test_lattice_points(codes, sigma):
    z = normal(7709, 300, 8) * np.float32(sigma or 1)
    if sigma is None:  # ties
        z = (np.random.default_rng(7711).integers(-20, 20, (300, 8)) / 8).astype(np.float32)
    many, count = blocks(len(z))
    found = np.zeros(len(z), np.uint16)
    tables = lattice_tables.e8p_row_index(), lattice_tables.wide_triples()
    codes["encode_e8p"](many, z, *tables, count, found)
    np.testing.assert_array_equal(found, CPU.encode_e8p(z))
    found = np.zeros(len(z), np.uint8)
    codes["encode_e81b"](many, z, count, found)
    np.testing.assert_array_equal(found, CPU.encode_e81b(z))


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_scalar_codes(codes, bits):
    z, levels = normal(7713, 3, 13), np.sort(normal(7715, 1 << bits))
    wide = levels.astype(np.float64)
    many, count = blocks(z.size)
    found = np.zeros(z.shape, np.uint8)
    codes["nearest_level"](many, z, (wide[:-1] + wide[1:]) * 0.5, len(levels) - 1, count, found)
    np.testing.assert_array_equal(found, CPU.nearest_level(z, levels))
    expected = CPU.pack_bits(found, bits)
    words = np.zeros_like(expected)
    codes["pack_bits"](*blocks(words.size)[:1], found, bits, 13, words.shape[1],
                       np.int64(words.size), words)  # fmt: skip
    np.testing.assert_array_equal(words, expected)
    back = np.zeros_like(found)
    codes["unpack_bits"](many, words, bits, 13, words.shape[1], count, back)
    np.testing.assert_array_equal(back, found)


@pytest.mark.parametrize(("bits", "rows"), [(2, 256), (3, 64), (4, 16)])
def test_trellis_words(codes, bits, rows):
    n = 21
    size = -(-n * rows // 256) * 16 * bits
    words = np.random.default_rng(7717).integers(0, 1 << 16, (2, size), np.uint16)
    out = np.zeros((2 * rows, n), np.float32)
    many, count = blocks(out.size)
    levels = trellis_code.state_values(12)
    codes["decode_trellis"](many, words, levels, bits, 12, rows, n, size, count, out)
    np.testing.assert_array_equal(out, CPU.decode_trellis(words, bits, 12, rows, n))


@pytest.mark.parametrize(("name", "dtype"), [("f32", np.float32), ("f64", np.float64)])
def test_transforms(codes, name, dtype):
    found = normal(7719, 3, 64).astype(dtype)
    expected = found.copy()
    for half in (1, 2, 4, 8, 16, 32):
        many, count = blocks(found.size // 2)
        codes[f"butterfly_{name}"](many, found, half, count)
    CPU.fwht(expected)
    np.testing.assert_array_equal(found, expected)
