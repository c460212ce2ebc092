"""Compress a synthetic checkpoint of a large model's shape: seconds a block, peak memory.

    python bench/scale.py                      two blocks of 4096 x 11008 (7B), 8 windows of 512
    python bench/scale.py --hidden 1024 --inner 2816 --heads 8 --tokens 1024

The weights are random with channels of unequal size; only cost is measured here, not quality.
The job runs in a process of its own, so its peak memory is its own. One JSON line comes out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from tiny import CONFIG, TEXT, tokenizer

SEED = 4096
LAYERS_7B = 32


def matrix(rng: np.random.Generator, m: int, n: int) -> NDArray[np.float16]:
    """Heavy-tailed channels over Gaussian entries, of a trained layer's size."""
    columns = np.exp(0.5 * rng.standard_normal(n)).astype(np.float32) / np.sqrt(n)
    return (rng.standard_normal((m, n), dtype=np.float32) * columns).astype(np.float16)


def write_model(
    folder: Path, hidden: int, inner: int, heads: int, layers: int, vocab: int | None = None
) -> None:
    """A Llama checkpoint, one shard a block; ``vocab``: more tokens than the tokenizer has."""
    rng = np.random.default_rng(SEED)
    config = CONFIG | {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "num_hidden_layers": layers,
        "torch_dtype": "float16",
        "vocab_size": vocab or CONFIG["vocab_size"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer().save(str(folder / "tokenizer.json"))
    weight_map: dict[str, str] = {}

    def shard(name: str, tensors: dict[str, NDArray[Any]]) -> None:
        save_file(tensors, folder / name)
        weight_map.update(dict.fromkeys(tensors, name))

    ones = np.ones(hidden, np.float16)
    vocab = config["vocab_size"]
    shell = {"model.embed_tokens.weight": matrix(rng, vocab, hidden), "model.norm.weight": ones}
    shard("shell.safetensors", shell)
    shapes = {
        **{f"self_attn.{k}_proj": (hidden, hidden) for k in "qkvo"},
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        tensors = {f"{prefix}{key}.weight": matrix(rng, *size) for key, size in shapes.items()}
        tensors |= {f"{prefix}input_layernorm.weight": ones}
        tensors |= {f"{prefix}post_attention_layernorm.weight": ones}
        shard(f"block-{layer}.safetensors", tensors)
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Write the model, compress it in a child process, and read its report."""
    model = work / "model"
    model.mkdir()
    size = (arguments.hidden, arguments.inner, arguments.heads)
    write_model(model, *size, arguments.layers)
    windows = arguments.tokens // 512
    text = work / "text.txt"
    text.write_text(TEXT * (arguments.tokens // len(TEXT) + 1))
    command = [
        sys.executable, "-m", "lrc", "compress", str(model), "-o", str(work / "out"),
        "--calib", str(text), "--nsamples", str(windows), "--seqlen", "512", "--json",
        *["--bits", arguments.bits], *(["--rank", arguments.rank] if arguments.rank else []),
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    report = json.loads(done.stdout)
    block = report["seconds_per_block"]
    return {
        "hidden": arguments.hidden,
        "inner": arguments.inner,
        "blocks": arguments.layers,
        "tokens": windows * 512,
        "seconds": round(time.perf_counter() - start, 1),
        "seconds_per_block": round(block, 1),
        f"hours_for_{LAYERS_7B}_blocks": round(block * LAYERS_7B / 3600, 2),
        "peak_rss_gib": round(report["peak_rss_bytes"] / 2**30, 2),
        "bits_per_weight_linear": report["bits_per_weight_linear"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--inner", type=int, default=11008)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--bits", default="2")
    parser.add_argument("--rank", default="")
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(measure(parser.parse_args(), Path(work))))


if __name__ == "__main__":
    main()
