"""GGUF files of a Llama checkpoint for llama.cpp, and how fast a prebuilt wheel of it runs them.

    python bench/llama_cpp.py MODEL OUT [--types f16 q8_0 q4_0]
    python bench/model.py COMPRESSED --gguf OUT/*.gguf --threads 1 2

Needed beside the test extra: the package ``xllamacpp``, llama.cpp as a wheel. Types are given to
tensors as llama.cpp's own quantizer does: norms stay float32, and with ``q4_0`` the embedding and
the head are ``q8_0``, as there where rows are no whole 256s. Rates are those that llama.cpp
reports, of whole prompts and of single tokens behind 16 others, as ``lrc bench`` times its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Tokens before those that are decoded, as in ``lrc bench``.
SHORT_PROMPT = 16
TYPES = ("f16", "q8_0", "q4_0")


def write(model: Path, out: Path, name: str) -> Path:
    """Write a checkpoint of model type ``llama`` as a GGUF file of a type; return its path.

    Raises
    ------
    ValueError
        The model is of another type.
    """
    import gguf
    import numpy as np
    from gguf.quants import quantize

    from lrc.formats.safetensors.checkpoint import Checkpoint

    config = json.loads((model / "config.json").read_text("utf-8"))
    if config["model_type"] != "llama":
        raise ValueError(f"{model} is a {config['model_type']}, not a llama")
    path = out / f"{model.name}-{name}.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    _add_tokenizer(writer, model, config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    kinds = {kind.name.lower(): kind for kind in gguf.GGMLQuantizationType}
    checkpoint = Checkpoint.open(model)
    for key in checkpoint.names():
        array = checkpoint.dense(key)
        if key == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        of_head = {"q_proj": heads, "k_proj": kv_heads}.get(key.split(".")[-2])
        if of_head:
            rows, width = array.shape
            pairs = array.reshape(of_head, 2, rows // of_head // 2, width).swapaxes(1, 2)
            array = np.ascontiguousarray(pairs).reshape(rows, width)
        kind = kinds["f32" if array.ndim == 1 else name]
        if name == "q4_0" and key in ("model.embed_tokens.weight", "lm_head.weight"):
            kind = kinds["q8_0"]
        stored = names.get_name(key, try_suffixes=(".weight",))
        writer.add_tensor(stored, quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, model: Path, size: int) -> None:
    """Tokens and merges of a byte-level ``tokenizer.json``."""
    import gguf

    stored = json.loads((model / "tokenizer.json").read_text("utf-8"))
    tokens = [f"[unused{i}]" for i in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for text, number in stored["model"]["vocab"].items():
        tokens[number], kinds[number] = text, gguf.TokenType.NORMAL
    for added in stored["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], gguf.TokenType.CONTROL
    merges = stored["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])


def measure(gguf: Path, threads: int, prompt: int, tokens: int) -> dict[str, Any]:
    """Rates of one file, in a process of its own, as `lrc bench` names them."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(gguf), str(threads), str(prompt), str(tokens)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _measure(gguf: str, threads: int, prompt: int, tokens: int) -> dict[str, Any]:
    import random

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 512, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_prompt, params.verbosity = False, -1
    server = xllamacpp.Server(params)
    ids = random.Random(20261122).choices(range(100, 40000), k=prompt)

    def complete(given: list[int], count: int) -> tuple[dict[str, Any], float]:
        before = time.process_time()
        found = server.handle_completions(
            {"prompt": given, "max_tokens": count, "n_predict": count, "temperature": 0.0,
             "ignore_eos": True, "cache_prompt": False}
        )  # fmt: skip
        found = json.loads(found) if isinstance(found, str) else found
        return found["timings"], time.process_time() - before

    complete(ids, 1)
    prompts = [complete(ids, 1) for _ in range(3)]
    decoded = [complete(ids[:SHORT_PROMPT], tokens + 1) for _ in range(3)]
    short = min(complete(ids[:SHORT_PROMPT], 1)[1] for _ in range(3))
    assert all(timings["prompt_n"] == prompt for timings, _ in prompts)
    assert all(timings["predicted_n"] > tokens for timings, _ in decoded)
    return {
        "prefill_tokens_per_s": statistics.median(t["prompt_per_second"] for t, _ in prompts),
        "decode_tokens_per_s": statistics.median(t["predicted_per_second"] for t, _ in decoded),
        "prefill_cpu_s_per_token": min(cpu for _, cpu in prompts) / prompt,
        "decode_cpu_s_per_token": (min(cpu for _, cpu in decoded) - short) / tokens,
    }


def main() -> None:
    """Write files, or measure one."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(_measure(sys.argv[2], *map(int, sys.argv[3:]))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.types:
        print(write(given.model, given.out, name))


if __name__ == "__main__":
    main()
