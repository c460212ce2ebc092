"""Dense checkpoints: single or sharded, and nothing read from outside the directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.sharded import write_weights
from lrc.formats.safetensors.writing import TensorSpec, stream_safetensors, write_safetensors
from lrc.formats.side_files import contained
from lrc.formats.view import View

RNG = np.random.default_rng(83)
TENSORS = {
    "lm_head.weight": RNG.standard_normal((6, 4)).astype(np.float32),
    "model.norm.weight": RNG.standard_normal(4).astype(np.float32),
    "model.layers.0.mlp.up_proj.weight": RNG.standard_normal((8, 4)).astype(np.float32),
}
INDEX = "model.safetensors.index.json"


def base(root: Path, config: Any = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
    return root


def single(root: Path, tensors: dict[str, Any] = TENSORS) -> Path:
    write_safetensors(base(root) / "model.safetensors", tensors)
    return root


def sharded(root: Path, limit: int = 120) -> Path:
    specs = {name: TensorSpec.of(array) for name, array in TENSORS.items()}
    write_weights(base(root), specs, TENSORS.__getitem__, max_shard_bytes=limit)
    return root


def indexed(root: Path, weight_map: Any) -> Path:
    write_safetensors(base(root) / "a.safetensors", TENSORS)
    (root / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return root


@pytest.mark.parametrize("make", [single, sharded])
def test_tensors_are_read_by_name(tmp_path: Path, make: Any) -> None:
    checkpoint = Checkpoint.open(make(tmp_path))
    assert checkpoint.kind == "dense"
    assert checkpoint.config == {"model_type": "llama"}
    assert checkpoint.names() == tuple(sorted(TENSORS))
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(checkpoint.dense(name), array)
        assert checkpoint.shape(name) == array.shape
        assert checkpoint.has(name)
    assert not checkpoint.has("lm_head.bias")
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == (1 if make is single else 2)
    assert checkpoint.nbytes == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("limit", [1, 95, 96, 97, 10_000])
def test_shards_hold_every_tensor_once(tmp_path: Path, limit: int) -> None:
    sharded(tmp_path, limit)
    assert Checkpoint.open(tmp_path).names() == tuple(sorted(TENSORS))
    if (tmp_path / INDEX).exists():
        index = json.loads((tmp_path / INDEX).read_text())
        assert index["metadata"]["total_size"] == sum(a.nbytes for a in TENSORS.values())
        assert set(index["weight_map"]) == set(TENSORS)
    else:
        assert limit == 10_000


def test_digest_depends_on_config_and_every_weight(tmp_path: Path) -> None:
    changed = {**TENSORS, "model.norm.weight": TENSORS["model.norm.weight"] + 1}
    digests = {
        Checkpoint.open(single(tmp_path / "a")).digest(),
        Checkpoint.open(single(tmp_path / "b", changed)).digest(),
    }
    base(single(tmp_path / "c"), {"model_type": "llama", "x": 1})
    digests.add(Checkpoint.open(tmp_path / "c").digest())
    assert len(digests) == 3
    again = Checkpoint.open(single(tmp_path / "d"))
    (tmp_path / "d" / "README.md").write_text("not part of the model")
    assert again.digest() == Checkpoint.open(tmp_path / "a").digest() == again.digest()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_refused_by_name(tmp_path: Path, bad: float) -> None:
    weight = TENSORS["lm_head.weight"].copy()
    weight[2, 1] = bad
    checkpoint = Checkpoint.open(single(tmp_path, {**TENSORS, "lm_head.weight": weight}))
    with pytest.raises(FormatError, match=r"'lm_head.weight'.* has 1 values"):
        checkpoint.linear("lm_head.weight")
    with pytest.raises(FormatError, match="has 1 values"):
        checkpoint.dense("lm_head.weight", check_finite=True)
    np.testing.assert_array_equal(checkpoint.dense("lm_head.weight"), weight)
    np.testing.assert_array_equal(checkpoint.linear("lm_head.weight", check_finite=False), weight)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, "BF16"])
def test_the_scan_finds_a_bad_value_in_every_dtype(tmp_path: Path, dtype: Any) -> None:
    fine = np.full(1 << 19, 1.5, np.float32)
    bad = fine.copy()
    bad[[5, -1]] = np.nan, -np.inf  # in the first and in the last part that is looked at
    for folder, values in (("fine", fine), ("bad", bad)):
        root = base(tmp_path / folder)
        if dtype == "BF16":
            words = (values.view(np.uint32) >> 16).astype(np.uint16)
            specs = {"w": TensorSpec("BF16", words.shape)}
            stream_safetensors(root / "model.safetensors", specs, [words], {})
        else:
            write_safetensors(root / "model.safetensors", {"w": values.astype(dtype)})
    Checkpoint.open(tmp_path / "fine").check_finite()
    for threads in (1, 2):
        with pytest.raises(FormatError, match=r"tensor 'w' .* has 2 values that are NaN"):
            Checkpoint.open(tmp_path / "bad").check_finite(threads)


def test_a_view_has_other_names_and_the_same_bytes(tmp_path: Path) -> None:
    whole = Checkpoint.open(single(tmp_path))
    view = whole.reading({"head": View("lm_head.weight")})
    assert view.names() == ("head",)
    assert not view.has("lm_head.weight")
    np.testing.assert_array_equal(view.dense("head"), TENSORS["lm_head.weight"])
    assert (view.digest(), view.nbytes) == (whole.digest(), whole.nbytes)


def test_unknown_tensor_and_vector_as_linear_are_refused(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(single(tmp_path))
    for call in (checkpoint.dense, checkpoint.linear, checkpoint.shape):
        with pytest.raises(FormatError, match="no tensor 'x'"):
            call("x")
    with pytest.raises(FormatError, match="expected a matrix"):
        checkpoint.linear("model.norm.weight")


def test_other_files_are_those_without_weights(tmp_path: Path) -> None:
    sharded(tmp_path)
    kept = ["LICENSE", "README.md", "chat_template.jinja", "tokenizer.json", "tokenizer.model"]
    dropped = ["pytorch_model.bin", "pytorch_model.bin.index.json", "x.gguf", "x.pth", ".gitignore"]
    for name in (*kept, *dropped):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    found = [path.name for path in Checkpoint.open(tmp_path).other_files()]
    assert found == sorted([*kept, "config.json"])


@pytest.mark.parametrize(
    "name",
    [
        "../secret", "/etc/secret", "a/../../secret", "..", "", "..\\secret", "\\secret", "C:\\x",
        "a\0b",
    ],
)  # fmt: skip
def test_index_cannot_name_files_outside(tmp_path: Path, name: str) -> None:
    write_safetensors(tmp_path / "secret", TENSORS)
    root = indexed(tmp_path / "model", {"lm_head.weight": name})
    with pytest.raises(FormatError, match="not inside the directory"):
        Checkpoint.open(root)


@pytest.mark.parametrize("name", ["a.safetensors", "model.safetensors", "config.json", INDEX])
def test_links_out_of_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    root = indexed(tmp_path / "model", dict.fromkeys(TENSORS, "a.safetensors"))
    source = root / name if (root / name).exists() else root / "a.safetensors"
    source.rename(tmp_path / "secret")
    (root / name).symlink_to(tmp_path / "secret")
    with pytest.raises(FormatError, match="leads out of the directory"):
        Checkpoint.open(root)


def test_linked_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    single(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(FormatError, match="leads out of the directory"):
        Checkpoint.open(tmp_path / "model").other_files()


def test_links_inside_the_directory_work(tmp_path: Path) -> None:
    single(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "w.safetensors")
    (tmp_path / "model.safetensors").symlink_to("w.safetensors")
    assert Checkpoint.open(tmp_path).names() == tuple(sorted(TENSORS))


def linked_into_blobs(root: Path) -> Path:
    single(root)
    blobs = root.parent.parent / "blobs"
    blobs.mkdir()
    for path in list(root.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    return root


def test_hub_cache_snapshots_link_into_blobs(tmp_path: Path) -> None:
    root = linked_into_blobs(tmp_path / "snapshots" / "abc")
    assert Checkpoint.open(root).names() == tuple(sorted(TENSORS))
    (tmp_path / "secret").write_text("x")
    (root / "notes.txt").symlink_to("../../secret")
    with pytest.raises(FormatError, match="leads out"):
        Checkpoint.open(root).other_files()


def test_only_snapshots_may_link_into_blobs(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="leads out"):
        Checkpoint.open(linked_into_blobs(tmp_path / "models" / "abc"))


def test_contained_allows_folders_below(tmp_path: Path) -> None:
    assert contained(tmp_path, "sub/x.safetensors") == tmp_path / "sub" / "x.safetensors"


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"lm_head.weight": "b.safetensors"}, "names b.safetensors, which is missing"),
        ({"lm_head.weight": 5}, "file name for each tensor"),
        ({}, "no weight_map"),
        (["a.safetensors"], "no weight_map"),
        (None, "no weight_map"),
    ],
)
def test_index_must_match_the_shards(tmp_path: Path, weight_map: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Checkpoint.open(indexed(tmp_path, weight_map))


def test_index_and_shards_need_not_agree_on_what_is_not_read(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(indexed(tmp_path, {"extra.weight": "a.safetensors"}))
    assert checkpoint.names() == tuple(sorted(TENSORS))  # also those that the index leaves out
    with pytest.raises(FormatError, match=r"'extra.weight' in a.safetensors, which does not hold"):
        checkpoint.dense("extra.weight")


def test_index_that_repeats_a_tensor_is_refused(tmp_path: Path) -> None:
    root = indexed(tmp_path, {})
    (root / INDEX).write_text('{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}')
    with pytest.raises(FormatError, match="'a' twice"):
        Checkpoint.open(root)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("pytorch_model.bin", "only pickled weights"),
        ("consolidated.00.pth", "only pickled weights"),
        ("model.gguf", "import-gguf"),
        ("README.md", "neither model.safetensors nor"),
    ],
)
def test_directory_without_safetensors_says_why(tmp_path: Path, file: str, message: str) -> None:
    (base(tmp_path) / file).write_text("x")
    with pytest.raises(FormatError, match=message):
        Checkpoint.open(tmp_path)


def test_wrong_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FormatError, match="does not exist"):
        Checkpoint.open(tmp_path / "none")
    with pytest.raises(FormatError, match="is a file"):
        Checkpoint.open(tmp_path / "file")
    write_safetensors(tmp_path / "model.safetensors", TENSORS)
    with pytest.raises(FormatError, match=r"no config\.json"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"a": 1}x', "\ufeff{}"])
def test_config_must_be_a_json_object(tmp_path: Path, text: str) -> None:
    single(tmp_path)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=r"config\.json"):
        Checkpoint.open(tmp_path)


def test_damaged_shard_is_refused_on_opening(tmp_path: Path) -> None:
    sharded(tmp_path)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(FormatError, match="truncated"):
        Checkpoint.open(tmp_path)
