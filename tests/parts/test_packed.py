"""Compressed models on disk: what is read, round trips, and broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from codebook_cases import may_group
from packed_cases import CODEBOOKS, random_matrix
from packed_golden import GOLDEN, Change, copied, drop, put, with_tensors

from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.measure.storage import linear_weights
from lrc.parts.packed import (
    MANIFEST,
    PackedCheckpoint,
    matrix_record,
    matrix_tensors,
    open_model_files,
    read_matrix,
)

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def golden() -> PackedCheckpoint:
    return PackedCheckpoint.open(GOLDEN)


# Reading


def test_what_a_packed_checkpoint_tells(golden: PackedCheckpoint) -> None:
    names = golden.names()
    assert names == tuple(sorted(names))
    assert len(names) == 1 + 7 + 3
    assert all(golden.has(name) for name in names)
    assert not golden.has("lm_head.weight")
    assert golden.shape(Q_PROJ) == (24, 24)
    assert golden.shape("model.norm.weight") == (24,)
    for name in names:
        dense = golden.dense(name)
        assert dense.dtype == np.float32
        assert dense.shape == golden.shape(name)
    assert golden.kind == "packed"
    assert golden.config["model_type"] == "llama"
    assert len(golden.digest()) == 64
    files = {f.name for f in golden.other_files()}
    assert {"config.json", "tokenizer.json"} < files
    assert not {MANIFEST, "shell.safetensors"} & files


def test_the_right_reader_is_chosen(tmp_path: Path) -> None:
    assert isinstance(open_model_files(GOLDEN), PackedCheckpoint)

    assert isinstance(open_model_files(tiny.write_model(tmp_path / "dense")), Checkpoint)
    with pytest.raises(FormatError):
        open_model_files(tmp_path / "nothing")


@pytest.mark.parametrize("rotation", ["none", "inputs", "hadamard"])
@pytest.mark.parametrize("codebook", CODEBOOKS, ids=str)
@pytest.mark.parametrize(
    ("shape", "rank", "factor_bits"), [((5, 13), 2, 16), ((16, 24), 3, 3), ((1, 1), 0, 4)]
)
def test_matrices_survive_storage(tmp_path, codebook, shape, rank, factor_bits, rotation) -> None:
    group = may_group(codebook[0], 5)
    matrix = random_matrix(
        shape, codebook, group_size=group, rotation=rotation, rank=rank, factor_bits=factor_bits
    )
    path = tmp_path / "x.safetensors"
    tensors = matrix_tensors("a.weight", matrix)
    write_safetensors(path, tensors, {})
    record = json.loads(json.dumps(matrix_record(matrix)))
    back = read_matrix(SafetensorsFile(path), "a.weight", record)
    np.testing.assert_array_equal(back.to_dense(), matrix.to_dense())
    for name, tensor in matrix_tensors("a.weight", back).items():
        assert tensor.dtype == tensors[name].dtype
        np.testing.assert_array_equal(tensor, tensors[name])
    assert back.gain == np.float32(matrix.gain)
    assert matrix_record(back) == matrix_record(matrix)


# Broken manifests


def read_all(folder: Path) -> None:
    opened = PackedCheckpoint.open(folder)
    for name in opened.names():
        opened.dense(name)


def test_an_untouched_copy_is_read(tmp_path: Path) -> None:
    read_all(copied(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("other", "format"), "does not describe a model compressed by lrc"),
        (drop("format"), "does not describe"),
        (put(3, "version"), "version 3; this library reads versions 1 to 2"),
        (put(0, "version"), "version 0"),
        (put("1", "version"), "version '1'"),
        (put(True, "version"), "version True"),
        (drop("version"), "version None"),
        (drop("files"), "lacks files"),
        (drop("matrices"), "lacks matrices"),
        (drop("source"), "lacks source"),
        (put([], "matrices"), "matrices"),
        (put({}, "source"), "source"),
        (put("many", "source", "parameters"), "parameters"),
        (put([3], "files"), "files"),
        (put("shell.safetensors", "files"), "files"),
        (put(["../other.safetensors"], "files"), "not inside the directory"),
        (put(["absent.safetensors"], "files"), "absent.safetensors"),
        (put(["shell.safetensors"] * 2, "files"), "none twice"),
        (put(["shell.safetensors"], "files"), "is not stored"),
        (put(5, "matrices", Q_PROJ), Q_PROJ),
        *((drop("matrices", Q_PROJ, key), f"{Q_PROJ}.*{key}") for key in (
            "shape", "rotation", "parts", "bits_per_weight")),
        *((drop("matrices", Q_PROJ, "parts", 0, key), f"part 0 of {Q_PROJ} lacks {key}")
          for key in ("kind", "codebook", "bits", "group_size", "row_scales")),
        *((drop("matrices", Q_PROJ, "parts", 1, key), f"part 1 of {Q_PROJ} lacks {key}")
          for key in ("kind", "rank", "bits")),
        (put([24], "matrices", Q_PROJ, "shape"), Q_PROJ),
        (put(["a", "b"], "matrices", Q_PROJ, "shape"), Q_PROJ),
        (put(None, "matrices", Q_PROJ, "shape"), Q_PROJ),
        (put([24, 25], "matrices", Q_PROJ, "shape"), "implies"),
        (put([-24, -24], "matrices", Q_PROJ, "shape"), Q_PROJ),
        (put("dct", "matrices", Q_PROJ, "rotation"), "dct"),
        (put("two", "matrices", Q_PROJ, "bits_per_weight"), Q_PROJ),
        (put({}, "matrices", Q_PROJ, "parts"), "parts"),
        (put([3], "matrices", Q_PROJ, "parts"), f"part 0 of {Q_PROJ} is not an object"),
        (put("wavelet", "matrices", Q_PROJ, "parts", 0, "kind"), "kind 'wavelet'; .* upgrade"),
        (put(7, "matrices", Q_PROJ, "parts", 0, "kind"), "kind 7"),
        (put("e8p-rvq3", "matrices", Q_PROJ, "parts", 0, "codebook"), "e8p-rvq3"),
        (put("uniform", "matrices", Q_PROJ, "parts", 0, "codebook"), "implies"),
        (put(3, "matrices", Q_PROJ, "parts", 0, "bits"), "e8p"),
        (put(-1, "matrices", Q_PROJ, "parts", 0, "group_size"), "group_size -1"),
        (put(8, "matrices", Q_PROJ, "parts", 0, "group_size"), "scales.*implies"),
        (put(True, "matrices", Q_PROJ, "parts", 0, "row_scales"), "scales.*implies"),
        (put(1, "matrices", Q_PROJ, "parts", 0, "row_scales"), "row_scales 1"),
        (put(3, "matrices", Q_PROJ, "parts", 1, "rank"), "implies"),
        (put(0, "matrices", Q_PROJ, "parts", 1, "rank"), "rank 0, not an integer >= 1"),
        (put(16, "matrices", Q_PROJ, "parts", 1, "bits"), "implies"),
        (put(9, "matrices", Q_PROJ, "parts", 1, "bits"), "bits 9"),
        (put({}, "matrices", "model.extra.weight"), "model.extra.weight"),
    ],
)  # fmt: skip
def test_broken_manifests_are_refused(change: Change, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        read_all(copied(tmp_path, change))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"format": "lrc", "format": 1}'])
def test_manifests_that_are_no_json_object_are_refused(content: bytes, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(FormatError, match=MANIFEST):
        read_all(folder)


@pytest.mark.parametrize("name", [MANIFEST, "shell.safetensors", "block-00000.safetensors"])
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / name).unlink()
    with pytest.raises(FormatError, match=name):
        read_all(folder)


# Broken tensors


SUFFIXES = ["codes.0", "scales", "gain", "signs_in", "signs_out", "left", "left_scales", "right",
            "right_scales"]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_tensors_are_named_on_opening(suffix: str, tmp_path: Path) -> None:
    name = f"{Q_PROJ}.{suffix}"
    with pytest.raises(FormatError, match=name):
        PackedCheckpoint.open(with_tensors(tmp_path, drop(name)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tensors_of_another_type_or_shape_are_refused_on_opening(
    suffix: str, tmp_path: Path
) -> None:
    name = f"{Q_PROJ}.{suffix}"

    def widened(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].astype(np.float64)

    def longer(tensors: dict[str, Any]) -> None:
        tensors[name] = np.repeat(tensors[name], 2, axis=0)

    for i, change in enumerate((widened, longer)):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(FormatError, match=name):
            PackedCheckpoint.open(with_tensors(tmp_path / str(i), change))


@pytest.mark.parametrize("suffix", ["scales", "gain", "left_scales"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scales_that_are_not_finite_are_refused(suffix: str, bad: float, tmp_path: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors[f"{Q_PROJ}.{suffix}"].flat[0] = bad

    with pytest.raises(FormatError, match=f"{Q_PROJ}.{suffix}.*finite"):
        read_all(with_tensors(tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [drop("matrices", Q_PROJ, "parts", 1), put("none", "matrices", Q_PROJ, "rotation"),
     drop("matrices", Q_PROJ)],
)  # fmt: skip
def test_tensors_that_no_record_describes_are_refused_on_opening(
    change: Change, tmp_path: Path
) -> None:
    """Else what is not read would be counted, or what is counted not read."""
    with pytest.raises(FormatError, match=f"{Q_PROJ}.* is no part of"):
        PackedCheckpoint.open(copied(tmp_path, change))


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["model.norm.weight"] = np.ones(24, np.float32)

    with pytest.raises(FormatError, match=r"model.norm.weight is stored in two files"):
        read_all(with_tensors(tmp_path, change))


def test_what_was_given_back_is_read_again(golden: PackedCheckpoint) -> None:
    before = {name: golden.dense(name).copy() for name in golden.names()}
    held = golden.dense("model.norm.weight")
    golden.release()
    for name, values in before.items():
        np.testing.assert_array_equal(golden.dense(name), values)
    np.testing.assert_array_equal(held, before["model.norm.weight"])


def test_a_name_that_is_not_stored_is_named(golden: PackedCheckpoint) -> None:
    for read in (golden.dense, golden.linear, golden.shape):
        with pytest.raises(FormatError, match=r"lm_head\.weight is not stored"):
            read("lm_head.weight")


# Roles


def test_a_file_that_does_not_say_what_its_matrices_are_is_read(golden: PackedCheckpoint) -> None:
    assert golden.roles() is None
    assert len(linear_weights(golden)) == 7


def test_roles_tell_linear_layers_from_tables(tmp_path: Path) -> None:
    """They count before the family's names: a reader may not know the family."""

    def with_roles(manifest: dict[str, Any]) -> None:
        for name, record in manifest["matrices"].items():
            record["role"] = "embedding" if name == Q_PROJ else "matrix"

    path = copied(tmp_path, with_roles)
    config = json.loads((path / "config.json").read_bytes())
    (path / "config.json").write_text(json.dumps(config | {"model_type": "unheard of"}))
    opened = PackedCheckpoint.open(path)
    assert set(linear_weights(opened)) == set(opened.report["matrices"]) - {Q_PROJ}


def test_a_role_that_is_unknown_is_refused(tmp_path: Path) -> None:
    for role in ("conductor", None, ["matrix"]):
        path = copied(tmp_path / str(role), put(role, "matrices", Q_PROJ, "role"))
        with pytest.raises(FormatError, match=r"has role .*, not one of matrix, embedding, head"):
            PackedCheckpoint.open(path)
