"""A GGUF file and the directory made from it are the same model with the same tokenizer."""

from __future__ import annotations

import functools
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_gguf
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_gguf import F16, F32, MERGES, Q4_1, Q8_0, TOKENS

from lrc.base.atomic import OutputError
from lrc.convert.gguf import import_gguf
from lrc.convert.gguf import importer as gguf_import
from lrc.convert.gguf.restore import unpermute
from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint

#: Hugging Face names of what a block has.
NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "token_embd": "embed_tokens", "output_norm": "norm",
}  # fmt: skip


def hf_name(name: str) -> str:
    parts = (NAMES.get(part, part) for part in name.split("."))
    return "model." + ".".join(parts).replace("blk", "layers")


def imported(folder: Path, *args: Any, **changes: Any) -> Checkpoint:
    file = tiny_gguf.write(folder / "m.gguf", *args, **changes)
    return Checkpoint.open(import_gguf(file, folder / "out"))


def as_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported(tmp_path_factory.mktemp("gguf")).path


@pytest.mark.parametrize("kind", [F32, F16, Q8_0, Q4_1])
def test_weights_are_those_of_the_file(tmp_path: Path, kind: Any) -> None:
    checkpoint = imported(tmp_path, kind=kind)
    exact = kind in (F16, F32)
    for name, values in tiny_gguf.tensors().items():
        if kind != F32 and values.ndim == 2:
            stored = gguf.quants.quantize(values, kind)
            values = gguf.quants.dequantize(stored, kind) if not exact else np.float16(values)
        heads = {"attn_q": 6, "attn_k": 2}.get(name.split(".")[-2])
        if heads is not None:
            values = np.concatenate([order(head) for head in np.split(values, heads)])
        expected = np.asarray(values, np.float32 if kind == F32 else np.float16)
        np.testing.assert_array_equal(checkpoint.dense(hf_name(name)), expected)
    assert checkpoint.config["torch_dtype"] == ("float32" if kind == F32 else "float16")


def order(head: NDArray[np.float32]) -> NDArray[np.float32]:
    """Even rows, then odd rows: one head from GGUF order to Hugging Face order."""
    return np.concatenate([head[0::2], head[1::2]])


@given(heads=st.integers(1, 5), half=st.integers(1, 6), seed=st.integers(3, 999))
def test_rotary_embedding_commutes_with_the_reordering(heads: int, half: int, seed: int) -> None:
    """Rotating neighbours in GGUF order equals rotating halves in Hugging Face order."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((heads * 2 * half, 1)).astype(np.float32)
    angles = rng.standard_normal(half)
    cos, sin = np.cos(angles), np.sin(angles)

    pairs = x.reshape(heads, half, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    neighbours = np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)

    first, second = np.split(unpermute(x, heads).reshape(heads, 2 * half), 2, axis=1)
    halves = np.concatenate([first * cos - second * sin, first * sin + second * cos], 1)
    np.testing.assert_array_equal(unpermute(neighbours, heads), halves.reshape(x.shape))


def test_untied_head_and_biases(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weights = tiny_gguf.tensors()
    weights["output.weight"] = rng.standard_normal((len(TOKENS), 96)).astype(np.float32)
    for i in range(2):
        for name, shape in tiny_gguf.SHAPES.items():
            bias = rng.standard_normal(shape[0]).astype(np.float32)
            weights[f"blk.{i}.{name}.bias"] = bias
    checkpoint = imported(tmp_path, weights, F32)
    assert checkpoint.config["tie_word_embeddings"] is False
    assert checkpoint.config["attention_bias"] is checkpoint.config["mlp_bias"] is True
    np.testing.assert_array_equal(checkpoint.dense("lm_head.weight"), weights["output.weight"])
    expected = np.concatenate([order(head) for head in np.split(weights["blk.1.attn_k.bias"], 2)])
    found = checkpoint.dense("model.layers.1.self_attn.k_proj.bias")
    np.testing.assert_array_equal(found, expected)


def test_values_beyond_float16_are_kept_in_float32(tmp_path: Path) -> None:
    weights = tiny_gguf.tensors()
    weights["output_norm.weight"][3] = 1e5
    checkpoint = imported(tmp_path, weights)
    assert checkpoint.config["torch_dtype"] == "float32"
    assert checkpoint.dense("model.norm.weight")[3] == 1e5
    assert {file.info(name).dtype for name, file in checkpoint.shards.items()} == {"F32"}


def test_no_half_written_float16_weights_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file would do in float16; float32 needs shards, and the single file must go."""
    weights = tiny_gguf.tensors()
    weights["output_norm.weight"][3] = 1e5
    limit = 2 * sum(values.size for values in weights.values())
    limited = functools.partial(gguf_import.write_weights, max_shard_bytes=limit)
    monkeypatch.setattr(gguf_import, "write_weights", limited)
    checkpoint = imported(tmp_path, weights)
    assert checkpoint.dense("model.norm.weight")[3] == 1e5
    assert not (checkpoint.path / "model.safetensors").exists()


def test_progress_counts_every_tensor(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    file = tiny_gguf.write(tmp_path / "m.gguf")
    import_gguf(file, tmp_path / "out", lambda *call: calls.append(call))
    assert calls == [("importing weights", i, 20) for i in range(1, 21)]


def test_import_is_deterministic(tmp_path: Path, directory: Path) -> None:
    again = imported(tmp_path).path
    for path in directory.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (UnsupportedModelError, "architecture 'bert'", {"architecture": "bert"}),
        (UnsupportedModelError, "type 'adapter'", {"general__type": "adapter"}),
        (UnsupportedModelError, "'longrope'", {"llama__rope__scaling__type": "longrope"}),
        (UnsupportedModelError, "sliding_window", {"llama__attention__sliding_window": 64}),
        (FormatError, "expert_used_count is None", {"llama__expert_count": 8}),
        (UnsupportedModelError, "head size 16", {"llama__rope__dimension_count": 8}),
        (UnsupportedModelError, "kind 'bert'", {"tokenizer__ggml__model": "bert"}),
        (UnsupportedModelError, "pre-tokenizer 'default'", {"tokenizer__ggml__pre": "default"}),
        (UnsupportedModelError, "pre-tokenizer None", {"tokenizer__ggml__pre": None}),
        (UnsupportedModelError, "lowercase=True", {"tokenizer__ggml__normalizer__lowercase": True}),
        (FormatError, "add_bos_token is 1", {"tokenizer__ggml__add_bos_token": 1}),
        (FormatError, "block_count is None", {"llama__block_count": None}),
        (FormatError, "context_length is 0", {"llama__context_length": 0}),
        (FormatError, "rms_epsilon is -1.0", {"llama__attention__layer_norm_rms_epsilon": -1.0}),
        (FormatError, "do not fit together", {"llama__attention__head_count_kv": 4}),
        (FormatError, "vocab_size 7", {"llama__vocab_size": 7}),
        (FormatError, r"lacks .*layers\.2", {"llama__block_count": 3}),
        (FormatError, "expected \\(161, 96\\)", {"llama__feed_forward_length": 161}),
        (FormatError, "eos_token_id is 999", {"tokenizer__ggml__eos_token_id": 999}),
        (FormatError, r"no list of strings .*\.tokens", {"tokenizer__ggml__tokens": 1}),
        (FormatError, "no list of strings", {"tokenizer__ggml__merges": None}),
        (FormatError, "merge 'the'", {"tokenizer__ggml__merges": [*MERGES, "the"]}),
        (FormatError, "cannot be built", {"tokenizer__ggml__merges": [*MERGES, "q q"]}),
        (FormatError, "3 token types", {"tokenizer__ggml__token_type": [3, 3, 3]}),
        (FormatError, "same token twice", {"tokenizer__ggml__tokens": [*TOKENS[:-1], TOKENS[0]]}),
        (FormatError, "vocabulary", {"tokenizer__ggml__tokens": [*TOKENS, "more"],
                                     "tokenizer__ggml__token_type": [1] * (len(TOKENS) + 1)}),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused(
    tmp_path: Path, error: type[LrcError], message: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message) as caught:
        imported(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize(
    ("name", "shape", "error", "message"),
    [
        ("blk.0.attn_q_norm.weight", (96,), UnsupportedModelError, "attn_q_norm"),
        ("blk.2.attn_norm.weight", (96,), UnsupportedModelError, r"blk\.2"),
        ("blk.1.ffn_norm.weight", (95,), FormatError, r"shape \(95,\)"),
        ("blk.1.ffn_norm.weight", None, FormatError, "1 tensors missing"),
    ],
)
def test_tensors_must_be_those_of_a_llama(
    tmp_path: Path, name: str, shape: Any, error: type[LrcError], message: str
) -> None:
    weights = tiny_gguf.tensors()
    weights.pop(name, None)
    if shape is not None:
        weights[name] = np.ones(shape, np.float32)
    with pytest.raises(error, match=message):
        imported(tmp_path, weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_weights_are_refused_by_name(tmp_path: Path, bad: float) -> None:
    weights = tiny_gguf.tensors()
    weights["blk.1.attn_norm.weight"][2] = bad
    with pytest.raises(FormatError, match=r"layers\.1\.input_layernorm\.weight has NaN"):
        imported(tmp_path, weights)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    file = tiny_gguf.write(tmp_path / "m.gguf")
    whole = file.read_bytes()
    for size in (0, 3, 4, 8, 20, 24, 40, 500, 5000, len(whole) // 2, len(whole) - 9000):
        file.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="GGUF"):
            import_gguf(file, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(FormatError, match="not a readable GGUF"):
        import_gguf(tmp_path / "x.gguf", tmp_path / "out")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FormatError, match="is not a file"):
            import_gguf(path, tmp_path / "out")


def test_existing_output_is_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        import_gguf(tmp_path / "none.gguf", tmp_path)


def test_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny_gguf.write(tmp_path / "m.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(LrcError, match=r"pip install 'lrc-llm\[gguf\]'"):
        import_gguf(file, tmp_path / "out")


def test_biases_of_q_k_and_v_alone_are_joined_by_zeros_on_o(tmp_path: Path) -> None:
    weights = tiny_gguf.tensors()
    for i in range(2):
        for name in ("attn_q", "attn_k", "attn_v"):
            shape = tiny_gguf.SHAPES[name][:1]
            weights[f"blk.{i}.{name}.bias"] = np.full(shape, 0.5, np.float32)
    checkpoint = imported(tmp_path, weights)
    assert checkpoint.config["attention_bias"] is True
    for i, (name, value) in itertools.product(range(2), [("q", 0.5), ("v", 0.5), ("o", 0)]):
        bias = checkpoint.dense(f"model.layers.{i}.self_attn.{name}_proj.bias")
        assert (bias == value).all()
    weights["blk.0.attn_output.bias"] = np.ones(96, np.float32)
    (tmp_path / "some").mkdir()
    with pytest.raises(FormatError, match=r"lacks model\.layers\.1\.self_attn\.o_proj\.bias"):
        imported(tmp_path / "some", weights)


def test_the_layout_key_changes_nothing(tmp_path: Path, directory: Path) -> None:
    again = imported(tmp_path, llama__tensor_data_layout="Meta AI original pth").path
    for path in directory.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
