"""Importance matrices of a whole model: measured as they are defined, and used as they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny

from lrc.cli.main import main
from lrc.convert.gguf.importance import importance_of
from lrc.formats.imatrix import Entry, imatrix_bytes, read_imatrix
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.models.opened import open_original
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.imatrix import write_imatrix

QUERIES = "model.layers.0.self_attn.q_proj"
TOKENS = np.arange(96).reshape(3, 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("imatrix") / "model"
    return tiny.write_model(path, hidden_size=64, intermediate_size=96, num_hidden_layers=1)


@pytest.fixture(scope="module")
def moments(model):
    path = model.parent / "moments.gguf"
    write_imatrix(model, path, windows=TOKENS, threads=1)
    return path


def compressed(model, out, *more):
    return main(["compress", str(model), "-o", str(out), "--bits", "2", "--quiet", *map(str, more)])


def test_moments_are_means_of_squares(model, moments):
    entries = read_imatrix(moments)
    assert len(entries) == 7
    weights = Checkpoint.open(model)
    x = weights.dense("model.embed_tokens.weight")[TOKENS.ravel()].astype(np.float64)
    x /= np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-5)
    found = entries["blk.0.attn_q.weight"]
    assert found.counts.tolist() == [96]
    assert np.allclose(found.mean_squares()[0], np.square(x).mean(axis=0), rtol=1e-5)
    assert np.array_equal(found.sums, entries["blk.0.attn_v.weight"].sums)
    assert entries["blk.0.ffn_down.weight"].sums.shape == (1, 96)


def test_errors_are_weighed_by_them_alone(model, moments, tmp_path, capsys):
    assert compressed(model, tmp_path / "out", "--imatrix", moments) == 0
    assert "an importance matrix" in capsys.readouterr().out
    made = PackedCheckpoint.open(tmp_path / "out")
    squares = importance_of(open_original(model)[0], moments)
    for name, record in made.report["matrices"].items():
        if name.removesuffix(".weight") not in squares:
            continue
        W = Checkpoint.open(model).dense(name).astype(np.float64)
        E, s = W - made.dense(name), squares[name.removesuffix(".weight")]
        damped = s + record["damping"] * s.mean()
        least, most = (np.sqrt((E**2 @ of).sum() / (W**2 @ of).sum()) for of in (s, damped))
        assert min(least, most) * 0.999 <= record["relative_error"] <= max(least, most) * 1.001
    calibration = json.loads((tmp_path / "out" / "lrc.json").read_text())["spec"]["calibration"]
    assert calibration["imatrix"] == str(moments)
    assert calibration["streams"] == "original"


def test_another_model_is_told_and_nothing_begun(model, moments, tmp_path, capsys):
    entries = read_imatrix(moments)
    wide = Entry(np.ones((1, 65), "f4"), np.ones(1, "f4"))
    unseen = Entry(np.zeros((1, 64), "f4"), np.zeros(1, "f4"))
    for change, says in (
        ({"blk.0.attn_q.weight": wide}, "64 inputs"),
        ({"blk.0.attn_q.weight": unseen}, "no token"),
    ):
        (tmp_path / "x").write_bytes(imatrix_bytes(entries | change, "", 1, 1))
        assert compressed(model, tmp_path / "out", "--imatrix", tmp_path / "x") == 1
        assert says in capsys.readouterr().err
    del entries["blk.0.attn_q.weight"]
    (tmp_path / "x").write_bytes(imatrix_bytes(entries, "", 1, 1))
    assert compressed(model, tmp_path / "out", "--imatrix", tmp_path / "x") == 1
    assert f"nothing on blk.0.attn_q.weight ({QUERIES})" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--calib", "text.txt"), "stands for text"),
        (("--streams", "mixed"), "stands for text"),
        (("--target-bpw", "3"), "measuring on text"),
        (("--metric", "kl"), "measured on text"),
        (("--recipe", "asvd", "--keep", "0.5"), "measured on text"),
    ],
)
def test_what_needs_text_is_refused(more, says, model, moments, tmp_path, capsys):
    call = ["compress", str(model), "-o", str(tmp_path / "out"), "--imatrix", str(moments), *more]
    assert main(call) == 1
    assert says in capsys.readouterr().err
