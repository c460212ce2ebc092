"""The exported directory holds what the model decodes to, rounded to float16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from lrc.base.atomic import OutputError
from lrc.convert import hf as module
from lrc.convert.hf import export_hf
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.writing import write_safetensors
from lrc.models.tensors import Plain, Tensor, Tensors

RNG = np.random.default_rng(47)
WEIGHTS = {
    "model.embed_tokens.weight": RNG.standard_normal((10, 6)).astype(np.float32),
    "model.layers.0.mlp.up_proj.weight": RNG.standard_normal((9, 6)).astype(np.float32),
    "model.norm.weight": np.array([1, 1e-7, 6e4, -2, 0, 3e-5], np.float32),
}
CONFIG = {"model_type": "llama", "torch_dtype": "bfloat16", "tie_word_embeddings": True}


class Source:
    """The part of a compressed checkpoint that export reads."""

    def __init__(self, root: Path, weights: dict[str, NDArray[np.float32]] = WEIGHTS) -> None:
        self.path = root
        self.config: dict[str, Any] = CONFIG
        self.weights = weights
        self.files = [root / name for name in ("config.json", "tokenizer.json", "README.md")]
        self.files.append(root / "additional_chat_templates" / "rag.jinja")
        for path in self.files:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(f"{path.name}\r\n\xff".encode("latin-1"))

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.weights))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights[name].shape

    def dense(self, name: str) -> NDArray[np.float32]:
        return self.weights[name]

    def other_files(self) -> tuple[Path, ...]:
        return tuple(self.files)


class Model:
    """The part of its model."""

    notes = ("something is not read",)

    def __init__(self, source: Source) -> None:
        read = {n: Tensor(w.shape, Plain(None, n)) for n, w in source.weights.items()}
        self.tensors = Tensors(read, lambda name: None)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source(tmp_path)
    monkeypatch.setattr(module, "open_model", lambda _: (Model(made), made))
    return made


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("limit", [10_000, 130])
def test_weights_are_rounded_once(tmp_path: Path, limit: int) -> None:
    out = export_hf("any", tmp_path / "out", max_shard_bytes=limit)
    checkpoint = Checkpoint.open(out)
    assert checkpoint.names() == tuple(sorted(WEIGHTS))
    for name, values in WEIGHTS.items():
        with np.errstate(under="ignore"):
            expected = values.astype(np.float16)
        np.testing.assert_array_equal(checkpoint.dense(name), expected)
    assert {file.info(name).dtype for name, file in checkpoint.shards.items()} == {"F16"}
    assert len(list(out.glob("*.safetensors"))) == (1 if limit == 10_000 else 2)


def test_other_files_are_copied_and_the_config_tells_the_dtype(
    tmp_path: Path, source: Source
) -> None:
    out = export_hf("any", tmp_path / "out")
    for path in source.files[1:]:
        assert (out / path.relative_to(source.path)).read_bytes() == path.read_bytes()
    assert json.loads((out / "config.json").read_text()) == {**CONFIG, "torch_dtype": "float16"}
    assert CONFIG["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("keys", [("dtype",), ("dtype", "torch_dtype"), ("torch_dtype",)])
def test_every_key_for_the_dtype_tells_it(
    tmp_path: Path, source: Source, keys: tuple[str, ...]
) -> None:
    source.config = dict.fromkeys(keys, "float32")
    out = export_hf("any", tmp_path / "out")
    assert json.loads((out / "config.json").read_text()) == dict.fromkeys(keys, "float16")


def test_an_endless_number_of_a_config_stays_as_transformers_reads_it(
    tmp_path: Path, source: Source
) -> None:
    source.config = {"time_step_limit": [0.0, float("inf")]}
    text = (export_hf("any", tmp_path / "out") / "config.json").read_text()
    assert "Infinity" in text
    assert json.loads(text)["time_step_limit"] == [0.0, float("inf")]


@pytest.mark.usefixtures("source")
def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    export_hf("any", tmp_path / "out", note=told.append)
    assert told == ["something is not read"]


@pytest.mark.usefixtures("source")
def test_progress_counts_every_tensor(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    export_hf("any", tmp_path / "out", lambda *call: calls.append(call))
    assert calls == [("exporting weights", i, 3) for i in (1, 2, 3)]


@pytest.mark.parametrize("bad", [7e4, np.inf, np.nan])
def test_a_value_that_does_not_fit_leaves_nothing(
    tmp_path: Path, source: Source, bad: float
) -> None:
    source.weights = {**WEIGHTS, "model.norm.weight": np.full(6, bad, np.float32)}
    with pytest.raises(FormatError, match=r"'model\.norm\.weight' reaches"):
        export_hf("any", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_existing_output_is_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        export_hf(tmp_path / "none", tmp_path)


def test_a_dense_directory_is_rewritten(tmp_path: Path) -> None:
    model = tiny.write_model(tmp_path / "in")
    weights = tiny.tensors(tiny.CONFIG, seed=71)
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(6, np.float32)}
    write_safetensors(model / "model.safetensors", weights | buffer)
    checkpoint = Checkpoint.open(export_hf(model, tmp_path / "out"))
    assert checkpoint.config["torch_dtype"] == "float16"
    assert checkpoint.names() == tuple(sorted(weights))
