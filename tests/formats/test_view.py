"""Tensors that lie within stored ones."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.writing import TensorSpec, stream_safetensors, write_safetensors
from lrc.formats.stored import widen
from lrc.formats.view import View, stored_shapes

RNG = np.random.default_rng(5)


@st.composite
def cut(draw: st.DrawFn) -> tuple[dict[str, View], tuple[int, ...]]:
    """All parts into which a tensor is cut, and its shape."""
    entries = draw(st.sampled_from([0, 1, 3]))
    transposed = draw(st.booleans())
    axes = draw(st.integers(2 if transposed else 1, 2))
    edges = sorted(draw(st.sets(st.integers(1, 9), min_size=1, max_size=3)))
    inner = (edges[-1], 4)[:axes]
    views = {
        f"{index}.{first}": View("w", index if entries else None, transposed, (first, end))
        for index in range(entries or 1)
        for first, end in zip([0, *edges], edges, strict=False)
    }
    inner = inner[::-1] if transposed else inner
    return views, (entries, *inner) if entries else inner


@given(cut())
def test_parts_make_up_the_whole(case: tuple[dict[str, View], tuple[int, ...]]) -> None:
    views, shape = case
    whole = RNG.standard_normal(shape)
    parts = {name: view.of(whole) for name, view in views.items()}
    for name, view in views.items():
        assert parts[name].flags.c_contiguous
        assert parts[name].shape == view.shape(shape)
    assert stored_shapes(views, lambda name: parts[name].shape) == {"w": shape}
    again = np.full(shape, np.nan)
    for name, view in views.items():
        view.put(parts[name], again)
    np.testing.assert_array_equal(again, whole)


def test_a_transposed_part_is_rows_of_the_transposed_whole() -> None:
    whole = RNG.standard_normal((3, 4, 6))
    view = View("w", index=2, transposed=True, rows=(1, 5))
    np.testing.assert_array_equal(view.of(whole), whole[2].T[1:5])


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_a_checkpoint_reads_parts(tmp_path: Path, dtype: str) -> None:
    whole = RNG.standard_normal((3, 6, 4)).astype(np.float32)
    stored = whole.astype(np.float16) if dtype == "F16" else whole
    if dtype == "BF16":
        stored = (whole.view(np.uint32) >> 16).astype(np.uint16)
    specs = {"w": TensorSpec(dtype, whole.shape)}
    stream_safetensors(tmp_path / "model.safetensors", specs, [stored], {})
    (tmp_path / "config.json").write_text("{}")
    views = {"a": View("w", 1, rows=(2, 6)), "b": View("w", 2, transposed=True)}
    opened = Checkpoint.open(tmp_path).reading(views)
    assert opened.names() == ("a", "b")
    for name, view in views.items():
        expected = view.of(widen(stored))
        assert opened.shape(name) == expected.shape
        assert opened.stored_bytes(name) == expected.size * (4 if dtype == "F32" else 2)
        for found in (opened.dense(name), opened.linear(name), opened.stored(name).rows(slice(9))):
            np.testing.assert_array_equal(found, expected)
            assert found.flags.c_contiguous
    opened.check_finite()
    with pytest.raises(TypeError, match="not of views"):
        opened.reading(views)


def test_a_part_is_where_it_lies_in_the_file(tmp_path: Path) -> None:
    """It is a view of the map: its pages alone are read."""
    whole = RNG.standard_normal((8, 64, 64)).astype(np.float32)
    write_safetensors(tmp_path / "model.safetensors", {"w": whole})
    (tmp_path / "config.json").write_text("{}")
    checkpoint = Checkpoint.open(tmp_path)
    file = checkpoint.dense("w")
    part = checkpoint.reading({"a": View("w", 5, rows=(32, 64))}).dense("a")
    assert np.shares_memory(part, file[5, 32:])
    assert not np.shares_memory(part, file[5, :32])
    assert not np.shares_memory(part, file[6])
