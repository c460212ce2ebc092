"""Directories and files that are no usable model say what they are and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

import lrc
from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.run.text import Tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def folder(root: Path, *names: str) -> Path:
    """A directory of these files; JSON files hold an empty object."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}" if name.endswith(".json") else "x")
    return root


def refusal(path: Path) -> str:
    with pytest.raises(LrcError) as caught:
        lrc.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_git_lfs_pointers_are_recognised_in_every_file(tmp_path: Path, name: str) -> None:
    model = tiny.write_model(tmp_path / "model")
    (model / name).write_text(POINTER)
    message = refusal(model)
    assert f"{name} is a git-lfs pointer" in message
    assert "git lfs pull" in message


def test_git_lfs_pointers_are_recognised_in_shards(tmp_path: Path) -> None:
    model = tiny.write_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / "a.safetensors")
    (model / "a.safetensors").write_text(POINTER)
    index = {"weight_map": {"model.norm.weight": "a.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "a.safetensors is a git-lfs pointer" in refusal(model)


@pytest.mark.parametrize("beside", [(), ("config.json",)])
def test_adapters_are_named_with_their_base(tmp_path: Path, beside: tuple[str, ...]) -> None:
    folder(tmp_path, "adapter_model.safetensors", *beside)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    message = refusal(tmp_path)
    assert "an adapter of org/base" in message
    assert "merge_and_unload" in message
    (tmp_path / "adapter_config.json").write_text("[")
    assert "an adapter, not a model" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["params.json", "consolidated.00.pth"], "format of its makers"),
        (["model_index.json"], "pipeline of diffusers"),
        (["m-q4.gguf"], "import-gguf"),
        (["sub/config.json"], "one in"),
        (["README.md"], "expected a Hugging Face model directory"),
    ],
)
def test_directories_without_config_say_what_they_are(
    tmp_path: Path, names: list[str], words: str
) -> None:
    message = refusal(folder(tmp_path, *names))
    assert words in message
    if names == ["sub/config.json"]:
        assert str(tmp_path / "sub" / "config.json") in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pytorch_model.bin", r"only pickled weights \(pytorch_model.bin\).*save_pretrained"),
        ("consolidated.00.pth", "only pickled weights"),
        ("original/consolidated.00.pth", r"only pickled weights \(original/consolidated"),
        ("original/consolidated.safetensors", "format of the model's makers"),
        ("consolidated.safetensors", "format of the model's makers"),
        ("model-00001-of-00002.safetensors", "without their index .*index.json"),
        ("weights.safetensors", r"\(weights.safetensors\); expected model.safetensors"),
        ("m-q4.gguf", "import-gguf"),
        ("onnx/model.onnx", "ONNX"),
        ("model.onnx", "ONNX"),
        ("tf_model.h5", "another framework"),
        ("flax_model.msgpack", "another framework"),
        ("README.md", "neither model.safetensors nor"),
    ],
)
def test_directories_without_safetensors_say_what_they_have(
    tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        Checkpoint.open(folder(tmp_path, "config.json", ".hidden.gguf", name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"quantization_config": {"load_in_4bit": True}}, "an unnamed method"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "mlx"),
    ],
)
def test_quantised_models_are_refused_on_opening(
    tmp_path: Path, changes: dict[str, Any], method: str
) -> None:
    model = tiny.write_model(tmp_path / "model", **changes)
    with pytest.raises(UnsupportedModelError, match=rf"already \({method}\); give the original"):
        Checkpoint.open(model)


@pytest.mark.parametrize("key", ["quantization_config", "quantization"])
def test_a_null_quantization_is_none(tmp_path: Path, key: str) -> None:
    assert Checkpoint.open(tiny.write_model(tmp_path / "model", **{key: None})).names()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["tokenizer.model"], "a sentencepiece model .*sentencepiece: AutoTokenizer"),
        (["vocab.json", "merges.txt"], "a vocabulary and merges .*AutoTokenizer"),
        (["qwen.tiktoken"], r"a tiktoken vocabulary \(qwen.tiktoken\)"),
        (["tekken.json"], "a tekken vocabulary .*fetch tokenizer.json"),
        ([], "give a whole model directory"),
    ],
)
def test_other_tokenizers_are_named(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(FormatError, match=rf"no tokenizer\.json.*{words}") as caught:
        Tokenizer.open(folder(tmp_path, *names))
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_directory_say_what_they_are(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "org" / "name")
    folder(tmp_path, "m.gguf", "model.safetensors")
    assert "import-gguf" in refusal(tmp_path / "m.gguf")
    assert "is a file; expected a directory" in refusal(tmp_path / "model.safetensors")


def test_an_index_beside_the_single_file_is_noted(tmp_path: Path) -> None:
    model = tiny.write_model(tmp_path / "model")
    index = model / "model.safetensors.index.json"
    for text in ('{"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}', "["):
        index.write_text(text)
        (note,) = lrc.load(model).model.notes
        assert "model.safetensors.index.json and its shards" in note
        assert "remove whichever is stale" in note
    index.write_text('{"weight_map": {"model.norm.weight": "model.safetensors"}}')
    assert lrc.load(model).model.notes == ()
    index.unlink()
    assert lrc.load(model).model.notes == ()
