"""A model as a GGUF file: the same weights bit for bit, the same settings, the same tokens."""

from __future__ import annotations

import dataclasses
import json

import gguf
import gguf_models
import numpy as np
import pytest
import tiny_gguf
from gguf_models import CASES
from small_gguf import write_dense, write_packed

from lrc.base.atomic import OutputError
from lrc.cli.main import main
from lrc.convert.gguf import import_gguf
from lrc.convert.gguf.exporter import adapter_path, export_gguf
from lrc.convert.gguf.target_types import for_gguf
from lrc.convert.gguf.written import WRITTEN
from lrc.convert.gguf.written_tokenizer import tokenizer_fields
from lrc.errors import SpecError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.opened import open_model
from lrc.models.tensors import weight_of
from lrc.spec import CompressSpec

WRITABLE = [name for name, case in CASES.items() if case.config["model_type"] in WRITTEN]


def read(path):
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


def decoded(tensor):
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def dense_of(name, folder):
    """A case as a Hugging Face directory, and the tensors of the file that it came from."""
    case, golden = CASES[name], json.loads((gguf_models.GOLDEN / "models.json").read_text())
    shapes = {key: tuple(shape) for key, shape in golden[name]["shapes"].items()}
    weights = gguf_models.draw(shapes, gguf_models.shifted(case), 4711)
    file = gguf_models.write(folder / "m.gguf", case, weights, kind=gguf.GGMLQuantizationType.F32)
    return import_gguf(file, folder / "hf"), gguf_models.stored(case, weights)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return write_dense(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def packed(dense, tmp_path_factory):
    return write_packed(dense, tmp_path_factory.mktemp("packed") / "out")


def test_the_file_decodes_to_what_the_model_computes_with(packed, tmp_path):
    notes = []
    path = export_gguf(packed, tmp_path / "m.gguf", note=notes.append)
    _, tensors = read(path)
    model, source = open_model(packed)
    kinds = set()
    for name, of in model.tensors.matrices.items():
        matrix = source.linear(weight_of(name))
        codes = matrix.terms[0].rows(np.arange(matrix.shape[0]))
        short = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
                 "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up",
                 "down_proj": "ffn_down"}[of.key.split(".")[-1]]  # fmt: skip
        tensor = tensors[f"blk.{of.block}.{short}.weight"]
        kinds.add((short, tensor.tensor_type.name))
        heads = {"attn_q": 4, "attn_k": 2}.get(short)
        if heads:
            codes = codes.reshape(heads, 2, -1, codes.shape[1]).swapaxes(1, 2).reshape(codes.shape)
        assert np.array_equal(decoded(tensor).view("u4"), codes.view("u4")), name
    assert ("ffn_down", "Q3_K") in kinds
    assert ("ffn_gate", "IQ4_NL") in kinds
    embedding = source.linear(model.tensors.tables["embedding"])
    table = decoded(tensors["token_embd.weight"])
    assert np.array_equal(table.view("u4"), embedding.to_dense().view("u4"))
    assert tensors["token_embd.weight"].tensor_type.name == "Q8_0"
    assert any("--lora" in note for note in notes)


def test_factors_lie_in_an_adapter_beside_it(packed, tmp_path):
    path = export_gguf(packed, tmp_path / "m.gguf")
    fields, tensors = read(adapter_path(path))
    assert fields["general.type"] == "adapter"
    assert fields["general.architecture"] == "llama"
    model, source = open_model(packed)
    found = 0
    for name in model.tensors.matrices:
        matrix = source.linear(weight_of(name))
        if len(matrix.parts) == 1:
            continue
        found += 1
    assert len(tensors) == 2 * found > 0
    name = next(iter(tensors)).removesuffix(".lora_a").removesuffix(".lora_b")
    _, base = read(path)
    whole = decoded(base[name]) + tensors[f"{name}.lora_b"].data @ tensors[f"{name}.lora_a"].data
    again = import_gguf(path, tmp_path / "again")
    assert whole.shape == decoded(base[name]).shape
    assert Checkpoint.open(again).names()


def test_the_imported_file_is_the_same_model(packed, tmp_path):
    path = export_gguf(packed, tmp_path / "m.gguf")
    again = import_gguf(path, tmp_path / "again")
    before, after = (
        {k: v for k, v in json.loads((p / "config.json").read_text()).items() if "dtype" not in k}
        for p in (packed, again)
    )
    assert before == after
    for name in ("tokenizer.json", "special_tokens_map.json", "generation_config.json"):
        assert (packed / name).read_bytes() == (again / name).read_bytes(), name
    settings = [json.loads((p / "tokenizer_config.json").read_text()) for p in (packed, again)]
    assert settings[0] == settings[1]


@pytest.mark.parametrize("name", WRITABLE)
def test_settings_and_weights_of_every_family_come_back(name, tmp_path):
    case = CASES[name]
    folder, stored = dense_of(name, tmp_path)
    path = export_gguf(folder, tmp_path / "out.gguf")
    fields, tensors = read(path)
    for key, value in case.fields.items():
        if value is not None:
            assert fields[f"{case.architecture}.{key}"] == pytest.approx(value), key
    assert tensors.keys() == stored.keys()
    for key, values in stored.items():
        np.testing.assert_allclose(
            decoded(tensors[key]).reshape(values.shape), values, rtol=1e-3, atol=1e-3, err_msg=key
        )
    again = import_gguf(path, tmp_path / "again")
    first, second = (json.loads((p / "config.json").read_text()) for p in (folder, again))
    assert {**first, "torch_dtype": ""} == {**second, "torch_dtype": ""}


def test_a_family_without_rules_is_refused_by_name(tmp_path, capsys):
    folder, _ = dense_of("phi2", tmp_path)
    assert main(["export", str(folder), "--to", "gguf", "-o", str(tmp_path / "new.gguf")]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "type phi are not written to GGUF" in told[0]
    assert "qwen2" in told[0]
    assert not (tmp_path / "new.gguf").exists()


def test_options_that_contradict_are_refused_before_any_work(dense, tmp_path, capsys):
    for options, words in (
        (["--type", "Q4_K_M"], "--type needs --for gguf"),
        (["--for", "gguf", "--type", "Q9"], "'Q9' is neither"),
        (["--for", "gguf", "--bits", "7"], "no grid of 7 bits"),
        (["--for", "gguf", "--type", "q4_k", "--bits", "4"], "contradict"),
        (["--for", "gguf", "--target-bpw", "3"], "contradict"),
        (["--for", "gguf", "--rotation", "hadamard"], "no rotation"),
    ):
        out = tmp_path / "out"
        assert main(["compress", str(dense), "-o", str(out), *options]) == 1, options
        assert words in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_types_are_those_of_a_file(dense, packed, tmp_path):
    path = export_gguf(packed, tmp_path / "m.gguf")
    spec = for_gguf(dense, CompressSpec(), str(path))
    kinds = {name: of.quant.codebook for name, of in spec.matrices.items()}
    _, tensors = read(path)
    assert kinds["model.layers.1.mlp.down_proj"] == "q3_k"
    assert sorted(kinds.values()) == sorted(
        t.tensor_type.name.lower() for n, t in tensors.items() if ".attn_norm" not in n
        and ".ffn_norm" not in n and n.startswith("blk.")
    )  # fmt: skip
    assert spec.embed_codebook == "q8_0"
    with pytest.raises(SpecError, match="neither a type"):
        for_gguf(dense, CompressSpec(), str(tmp_path / "none.gguf"))


def test_a_model_of_other_codes_is_written_in_half_precision(dense, tmp_path):
    notes = []
    path = export_gguf(dense, tmp_path / "m.gguf", note=notes.append)
    _, tensors = read(path)
    assert tensors["blk.0.ffn_up.weight"].tensor_type.name == "F16"
    assert "written in float16" in notes[0]


def test_nothing_is_overwritten_and_nothing_is_left(packed, tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    adapter_path(path).write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        export_gguf(packed, path)
    assert [p.name for p in tmp_path.iterdir()] == ["m-lora.gguf"]
    adapter_path(path).unlink()
    monkeypatch.setattr(gguf.GGUFWriter, "write_ti_data_to_file", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_gguf(packed, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "no name for the way"),
        ({"normalizer": {"type": "Lowercase"}}, "'Lowercase' is not written"),
    ],
)
def test_a_tokenizer_that_gguf_cannot_name_is_refused(dense, tmp_path, change, words):
    for file in dense.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    stored = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored | change))
    with pytest.raises(UnsupportedModelError, match=words):
        tokenizer_fields(tmp_path, len(tiny_gguf.TOKENS))


def test_spec_round_trips(dense):
    spec = for_gguf(dense, CompressSpec(), "q3_k_m")
    assert CompressSpec.from_dict(spec.to_dict()) == spec
    assert dataclasses.replace(spec, matrices={}).decompose.rotation == "none"
