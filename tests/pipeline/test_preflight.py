"""What can be known before the work is refused before it, and what is accepted opens again."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

import lrc as library
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.writing import TensorSpec, stream_safetensors
from lrc.measure.storage import storage
from lrc.parts.packed import PackedCheckpoint
from lrc.run.text import Tokenizer

Lrc = Callable[..., Any]
COMPRESS = importlib.import_module("lrc.pipeline.compress")
LAST = "model.layers.3.mlp.up_proj.weight"
NORM = "model.layers.3.post_attention_layernorm.weight"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def change(model: Path, **values: Any) -> None:
    """Replace tensors; None removes one."""
    found = load_file(model / "model.safetensors") | values
    kept = {name: value for name, value in found.items() if value is not None}
    save_file(kept, model / "model.safetensors")


def as_fp8(model: Path, name: str) -> None:
    arrays = load_file(model / "model.safetensors")
    arrays[name] = np.zeros(arrays[name].shape, np.uint8)
    specs = {n: TensorSpec.of(a) for n, a in arrays.items()}
    specs[name] = TensorSpec("F8_E4M3", arrays[name].shape)
    order = sorted(specs, key=lambda n: (specs[n].dtype != "F32", n))
    stream_safetensors(model / "model.safetensors", specs, [arrays[n] for n in order], {})


def with_nan(model: Path, name: str) -> None:
    values = load_file(model / "model.safetensors")[name].copy()
    values.reshape(-1)[-1] = np.nan
    change(model, **{name: values})


def link_out(model: Path, name: str) -> None:
    (model / name).rename(model.parent / name)
    (model / name).symlink_to(model.parent / name)


def edit(model: Path, **values: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | values))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "linked tokenizer": (lambda m: link_out(m, "tokenizer.json"), "leads out of the directory"),
    "linked side file": (lambda m: link_out(m, "generation_config.json"), "leads out"),
    "last block lacks a tensor": (lambda m: change(m, **{LAST: None}), f"no tensor '{LAST}'"),
    "last block has a shape": (
        lambda m: change(m, **{LAST: np.zeros((80, 48), np.float32)}),
        f"{LAST} has shape (80, 48) and config.json implies (88, 48)",
    ),
    "last block is fp8": (lambda m: as_fp8(m, LAST), f"'{LAST}' of"),
    "last block holds a NaN": (lambda m: with_nan(m, LAST), f"'{LAST}' of"),
    "last norm holds a NaN": (lambda m: with_nan(m, NORM), f"'{NORM}' of"),
    "embedding holds a NaN": (lambda m: with_nan(m, EMBEDDING), f"'{EMBEDDING}' of"),
    "norm of queries": (
        lambda m: change(m, **{"model.layers.0.self_attn.q_norm.weight": np.ones(12, np.float32)}),
        "q_norm",
    ),
    "three dimensions": (
        lambda m: change(m, **{"model.layers.0.conv1d.weight": np.ones((2, 2, 2), np.float32)}),
        "conv1d",
    ),
    "soft capping": (lambda m: edit(m, attn_logit_softcapping=50.0), "attn_logit_softcapping=50.0"),
    "a key nobody knows": (lambda m: edit(m, mystery=1), "mystery=1"),
    "tied head of its own": (
        lambda m: change(m, **{HEAD: np.ones((258, 48), np.float32)}),
        "tie_word_embeddings to false",
    ),
}


@pytest.mark.parametrize("calibration", ["files", "self-written", "budget"])
@pytest.mark.parametrize("name", DAMAGE)
def test_refused_before_any_work(
    lrc: Lrc,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    calibration: str,
) -> None:
    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr("lrc.pipeline.material.calibration_windows", work)
    for step in ("allocate_in", "run_blocks"):
        monkeypatch.setattr(COMPRESS, step, work)
    source = tiny.write_model(tmp_path / "model", num_hidden_layers=4)
    damage, said = DAMAGE[name]
    damage(source)
    before = sorted(tmp_path.iterdir())
    options: dict[str, tuple[object, ...]] = {
        "files": ("--calib", text),
        "self-written": (),
        "budget": ("--target-bpw", "3"),
    }
    outcome = lrc("compress", source, "-o", tmp_path / "out", *options[calibration], *fast)
    assert outcome.code == 1
    assert outcome.err.startswith("lrc: error: "), outcome.err
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("verb", ["eval", "generate", "export"])
@pytest.mark.parametrize("packed_model", [False, True])
@pytest.mark.parametrize("key", ["attn_logit_softcapping", "mystery"])
def test_every_verb_refuses_what_it_would_leave_out(
    lrc: Lrc, packed: Path, tmp_path: Path, verb: str, packed_model: bool, key: str
) -> None:
    folder = tmp_path / "model"
    if packed_model:
        folder.mkdir()
        for file in packed.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    else:
        tiny.write_model(folder)
    edit(folder, **{key: 2})
    options = {"eval": (), "generate": ("-p", "x"), "export": ("-o", tmp_path / "out")}
    outcome = lrc(verb, folder, *options[verb], "--quiet")
    assert outcome.code == 1
    assert f"{key}=2" in outcome.err


def test_a_key_given_twice_is_read_as_its_last_everywhere(
    lrc: Lrc, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    source, out = tiny.write_model(tmp_path / "model"), tmp_path / "out"
    content = (source / "config.json").read_text()
    twice = content.rstrip().removesuffix("}") + ', "rope_theta": 500.0}'
    (source / "config.json").write_text(twice)
    lrc("compress", source, "-o", out, "--calib", text, *fast).check()
    assert library.load(source).model.config.rope.theta == 500.0
    assert library.load(out).model.config == library.load(source).model.config
    lrc("export", out, "-o", tmp_path / "dense", "--quiet").check()
    assert library.load(tmp_path / "dense").model.config == library.load(out).model.config


def test_what_is_not_read_is_neither_kept_nor_counted(
    lrc: Lrc, packed: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    source, out = tiny.write_model(tmp_path / "model"), tmp_path / "out"
    change(source, **{
        HEAD: load_file(source / "model.safetensors")[EMBEDDING],
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(6, np.float32),
        "model.layers.1.self_attn.rotary_emb.inv_freq": np.ones(6, np.int64),
        "model.layers.2.mlp.up_proj.weight": np.ones((88, 48), np.float32),
    })  # fmt: skip
    record = lrc("compress", source, "-o", out, "--calib", text, "--json", *fast).check().json
    small, usual = PackedCheckpoint.open(out), PackedCheckpoint.open(packed)
    for name in usual.report["files"]:
        assert (out / name).read_bytes() == (packed / name).read_bytes(), name
    assert {name: record[name] for name in storage(usual)} == storage(usual)
    assert any("'model.layers.2.mlp.up_proj.weight'" in line for line in record["warnings"])
    lrc("export", source, "-o", tmp_path / "dense", "--quiet").check()
    assert Checkpoint.open(tmp_path / "dense").names() == small.names()
    told = lrc("generate", source, "-p", "x", "--max-tokens", "1").check().err
    assert "not read: 'model.layers.2.mlp.up_proj.weight'" in told


@pytest.mark.parametrize(
    ("named", "told"),
    [({"bos_token_id": 256}, "token 256, BOS"), ({"eos_token_id": 257}, "token 257")],
)
def test_text_is_written_without_a_bos_in_the_configuration(
    lrc: Lrc, fast: tuple[str, ...], tmp_path: Path, named: dict[str, int], told: str
) -> None:
    source = tiny.write_model(tmp_path / "model")
    edit(source, bos_token_id=None)
    (source / "generation_config.json").write_text(json.dumps(named))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (source / name).unlink()
    record = lrc("compress", source, "-o", tmp_path / "out", "--json", *fast).check().json
    said = [line for line in record["warnings"] if "names no bos_token_id" in line]
    assert len(said) == 1
    assert told in said[0]
    assert PackedCheckpoint.open(tmp_path / "out").report["warnings"] == record["warnings"]


@pytest.mark.parametrize("other", [{"eos_ids": (1,)}, {"bos_id": 1}, {"chat_template": "x"}])
def test_a_copy_that_would_not_stop_start_or_chat_alike_is_refused(
    model: Path, tmp_path: Path, other: dict[str, Any]
) -> None:
    found = Tokenizer.open(model)
    same = {name: getattr(found, name) for name in ("eos_ids", "bos_id")} | {
        "chat_template": found.chat_templates
    }
    files = Checkpoint.open(model).other_files()
    COMPRESS._copy(model, files, Tokenizer(found.backend, **same), tmp_path)
    assert {file.name for file in files} == {file.name for file in tmp_path.iterdir()}
    with pytest.raises(FormatError, match="eos, bos or chat template differ"):
        COMPRESS._copy(model, files, Tokenizer(found.backend, **(same | other)), tmp_path)


def test_further_chat_templates_are_copied(tmp_path: Path) -> None:
    model, out = tiny.write_model(tmp_path / "model"), tmp_path / "out"
    out.mkdir()
    folder = model / "additional_chat_templates"
    folder.mkdir()
    (folder / "rag.jinja").write_text("documents")
    (folder / "notes.txt").write_text("no template")
    files = Checkpoint.open(model).other_files()
    COMPRESS._copy(model, files, Tokenizer.open(model), out)
    assert Tokenizer.open(out).chat_templates["rag"] == "documents"
    assert [f.name for f in (out / folder.name).iterdir()] == ["rag.jinja"]


def test_a_side_file_that_is_lost_is_found_before_the_work(
    lrc: Lrc, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Checkpoint.other_files
    left_out = lambda self: tuple(f for f in whole(self) if "tokenizer_config" not in f.name)  # noqa: E731
    monkeypatch.setattr(Checkpoint, "other_files", left_out)
    outcome = lrc("compress", model, "-o", tmp_path / "out", "--quiet")
    assert outcome.code == 1
    assert "chat template differ" in outcome.err
