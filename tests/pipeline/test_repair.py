"""An adapter for a GGUF file brings its model closer to the original."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
import tiny_gguf

from lrc.cli.main import main
from lrc.convert.gguf import import_gguf
from lrc.convert.gguf.exporter import export_gguf
from lrc.convert.gguf.written import GgufModel
from lrc.models.opened import open_original
from lrc.quant import quantizer

FEW = ["--written", "0", "--nsamples", "6", "--seqlen", "48", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An original, its file with weights in two bits or so, and text."""
    root = tmp_path_factory.mktemp("repair")
    plain = tiny_gguf.tensors()
    rng = np.random.default_rng(3)
    for name, values in plain.items():  # inputs that go together: few directions matter
        plain[name] = values * np.float32(0.2) if values.ndim > 1 else np.ones_like(values)
    plain["token_embd.weight"] = (
        rng.standard_normal((len(tiny_gguf.TOKENS), 6)) @ rng.standard_normal((6, 96))
    ).astype("f4")
    whole = tiny_gguf.write(root / "whole.gguf", plain, gguf.GGMLQuantizationType.F32)
    dense = import_gguf(whole, root / "dense")
    export_gguf(dense, root / "half.gguf")
    coarse = {
        name: _coarse(values) if values.ndim > 1 and name.startswith("blk") else values
        for name, values in plain.items()
    }
    tiny_gguf.write(root / "coarse.gguf", coarse, gguf.GGMLQuantizationType.F32)
    (root / "text.txt").write_text("the tin in the hint 12 in the inn " * 300)
    return root


def _coarse(values):
    """Weights as two bits leave them."""
    n = values.shape[1]
    padded = np.pad(values, ((0, 0), (0, -n % 256)))
    coder = quantizer("q2_k", 2)
    return np.ascontiguousarray(coder.decode(coder.encode(padded))[:, :n])


def adapted(folder, path):
    """Weights of the coarse file and its adapter, as a model's directory."""
    from safetensors.numpy import load_file, save_file

    out = import_gguf(folder / "coarse.gguf", path)
    rules = GgufModel.of(open_original(folder / "dense")[0], gguf)
    tensors = {t.name: t.data for t in gguf.GGUFReader(folder / "adapter.gguf").tensors}
    weights = load_file(out / "model.safetensors")
    for name, place in rules.names.items():
        if f"{place}.lora_a" in tensors:
            left, order = tensors[f"{place}.lora_b"].astype("f4"), rules.order(name)
            left = left if order is None else left[np.argsort(order)]
            weights[name] = weights[name] + left @ tensors[f"{place}.lora_a"].astype("f4")
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    return out


def test_an_adapter_brings_the_logits_closer(folder, tmp_path, capsys):
    command = ["repair", str(folder / "coarse.gguf"), "--against", str(folder / "dense")]
    command += ["-o", str(folder / "adapter.gguf"), "--rank", "8"]
    command += ["--calib", str(folder / "text.txt"), *FEW]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "rank 8 of 14 matrices" in told
    reader = gguf.GGUFReader(folder / "adapter.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    shapes = {t.name: t.data.shape for t in reader.tensors}
    assert shapes["blk.1.attn_k.weight.lora_a"] == (8, 96)
    assert shapes["blk.1.attn_k.weight.lora_b"] == (32, 8)
    coarse = import_gguf(folder / "coarse.gguf", tmp_path / "coarse")
    models = [
        open_original(p)[0] for p in (folder / "dense", coarse, adapted(folder, tmp_path / "a"))
    ]
    ids = np.random.default_rng(9).integers(3, len(tiny_gguf.TOKENS), (4, 32))
    original, before, after = (model.logits(ids) for model in models)
    lost = [float(np.square(x - original).mean()) for x in (before, after)]
    assert lost[1] < 0.7 * lost[0]
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err


def test_factors_that_learn_together_predict_better_on_any_threads(folder, tmp_path, capsys):
    words = np.random.default_rng(5).choice(["the", "tin", "in", "hint", "12", "inn"], 4000)
    (tmp_path / "text.txt").write_text(" ".join(words))

    def repaired(name: str, *more: str) -> dict:
        command = ["repair", str(folder / "coarse.gguf"), "--against", str(folder / "dense")]
        command += ["-o", str(tmp_path / name), "--rank", "8", "--quiet", "--json"]
        command += ["--calib", str(tmp_path / "text.txt"), "--nsamples", "24", "--seqlen", "48"]
        assert main([*command, *more]) == 0
        return json.loads(capsys.readouterr().out)

    assert repaired("fitted.gguf", "--threads", "1", "--passes", "0")["divergence"] is None
    told = repaired("one.gguf", "--threads", "1", "--passes", "3")
    before, after = told["divergence"]
    assert after < 0.9 * before
    assert repaired("two.gguf", "--threads", "2", "--passes", "3")["divergence"] == [before, after]
    one, two, fitted = ((tmp_path / f"{n}.gguf").read_bytes() for n in ("one", "two", "fitted"))
    assert one == two
    assert one != fitted


def test_what_does_not_belong_together_is_refused_and_nothing_is_left(folder, tmp_path, capsys):
    other = dict(tiny_gguf.tensors())
    for i in range(2):
        other[f"blk.{i}.ffn_up.weight"] = other[f"blk.{i}.ffn_up.weight"][:128]
        other[f"blk.{i}.ffn_gate.weight"] = other[f"blk.{i}.ffn_gate.weight"][:128]
        other[f"blk.{i}.ffn_down.weight"] = other[f"blk.{i}.ffn_down.weight"][:, :128]
    file = tiny_gguf.write(tmp_path / "other.gguf", other, llama__feed_forward_length=128)
    out = tmp_path / "adapter.gguf"
    for given, words in (
        ([str(file)], "give the model that the file was made from"),
        ([str(folder / "coarse.gguf"), "--rank", "0"], "rank=0 must be at least 1"),
        ([str(folder / "coarse.gguf"), "--passes", "-1"], "passes=-1 must be 0 or positive"),
        ([str(folder / "coarse.gguf"), "--passes", "1", "--nsamples", "1"], "two windows of text"),
        ([str(tmp_path / "none.gguf")], "not a file"),
    ):
        command = ["repair", "--against", str(folder / "dense"), "-o", str(out), *FEW, *given]
        assert main([*command, "--calib", str(folder / "text.txt")]) == 1
        assert words in capsys.readouterr().err
        assert [p.name for p in tmp_path.iterdir()] == ["other.gguf"]
