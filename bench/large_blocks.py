"""One block of a large model of each family: does it load, calibrate and compress in 16 GiB?

    python bench/large_blocks.py                           all shapes, 2,048 tokens
    python bench/large_blocks.py gemma2-27b --tokens 512   one of them

Weights are random, of the block's true shape, in float16; vocabularies are small. Only cost is
measured, not quality. Each job is a process of its own, so its peak memory is its own. One JSON
line a shape: seconds a block, what that makes for all of the model's blocks, processor seconds of
all threads, and peak memory as the operating system counts it: pages of the checkpoint's mapped
files are in it, at most ``checkpoint_gib`` of them.
"""

from __future__ import annotations

import argparse
import json
import resource
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
from audio_cases import noise
from tiny import TEXT, tokenizer
from wav_files import wav_bytes

from lrc.models import declared
from lrc.models.tensors import Matrix, Tensors

SEED, WINDOW = 4096, 512
_COMMON = {
    "vocab_size": 258, "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float16",
    "num_hidden_layers": 1, "max_position_embeddings": 4096,
}  # fmt: skip
#: Name: (blocks of the model, what its configuration says).
SHAPES: dict[str, tuple[int, dict[str, Any]]] = {
    "mixtral-8x7b": (32, {
        "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "num_experts_per_tok": 2, "rope_theta": 1e6, "tie_word_embeddings": False,
    }),
    "gemma2-27b": (46, {
        "model_type": "gemma2", "hidden_size": 4608, "intermediate_size": 36864,
        "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128,
        "query_pre_attn_scalar": 144, "sliding_window": 4096,
    }),
    "phi3-medium": (40, {
        "model_type": "phi3", "hidden_size": 5120, "intermediate_size": 17920,
        "num_attention_heads": 40, "num_key_value_heads": 10, "tie_word_embeddings": False,
        "pad_token_id": 0,
    }),
    "falcon-mamba-7b": (64, {
        "model_type": "falcon_mamba", "hidden_size": 4096, "intermediate_size": 8192,
        "state_size": 16, "conv_kernel": 4, "time_step_rank": 256, "tie_word_embeddings": False,
        "max_position_embeddings": None,
    }),
    "whisper-medium": (48, {
        "model_type": "whisper", "d_model": 1024, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096, "decoder_start_token_id": 256,
        "num_hidden_layers": None, "max_position_embeddings": None,
    }),
}  # fmt: skip


def values(rng: np.random.Generator, tensors: Tensors, name: str) -> NDArray[np.float16]:
    """Heavy-tailed channels over Gaussian entries for matrices, ones for what is plain."""
    shape = tensors.shape(name)
    if not isinstance(tensors.role(name), Matrix):
        plain = np.ones(shape) if len(shape) == 1 else rng.standard_normal(shape) / shape[-1] ** 0.5
        return plain.astype(np.float16)
    columns = np.exp(0.5 * rng.standard_normal(shape[1])).astype(np.float32) / shape[1] ** 0.5
    return (rng.standard_normal(shape, dtype=np.float32) * columns).astype(np.float16)


def write_model(folder: Path, config: dict[str, Any]) -> int:
    """A checkpoint, one file a tensor, so that no two are in memory; returns its weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer().save(str(folder / "tokenizer.json"))
    rng, tensors, weight_map = np.random.default_rng(SEED), declared(config), dict[str, str]()
    for number, name in enumerate(tensors.read):
        weight_map[name] = f"tensor-{number:05d}.safetensors"
        save_file({name: values(rng, tensors, name)}, folder / weight_map[name])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return sum(m * n for m, n in (tensors.shape(f"{name}.weight") for name in tensors.matrices))


def windows(work: Path, tokens: int) -> list[str]:
    """Options of `lrc compress` for so many tokens of text."""
    text = work / "text.txt"
    text.write_text(TEXT * (tokens // len(TEXT) + 1))
    window = min(WINDOW, tokens)
    return ["--calib", str(text), "--nsamples", str(tokens // window), "--seqlen", str(window)]


def speech(work: Path, tokens: int) -> list[str]:
    """The same for so many positions of audio: windows of 30 seconds, the last one whole."""
    write_sides(work / "whisper-medium")
    rows = []
    for number in range(-(-tokens // 1500)):
        (work / f"{number}.wav").write_bytes(wav_bytes(noise(30.0, number)))
        rows.append(json.dumps({"audio": f"{number}.wav", "text": TEXT[:200]}))
    (work / "list.jsonl").write_text("\n".join(rows))
    return ["--calib", str(work / "list.jsonl")]


def write_sides(model: Path) -> None:
    """What says how audio becomes features, and what transcripts begin with."""
    (model / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80}))
    tokens = {"decoder_start_token_id": 256, "eos_token_id": 257}
    (model / "generation_config.json").write_text(json.dumps(tokens))


def measure(name: str, given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Write a model of one block, compress it in a process of its own, and read its report."""
    blocks, own = SHAPES[name]
    model = work / name
    weights = write_model(model, _COMMON | own | json.loads(given.change))
    material = speech if own["model_type"] == "whisper" else windows
    start, before = time.perf_counter(), processor_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "lrc", "compress", str(model), "-o", str(work / "out"),
         *material(work, given.tokens), "--json", *given.options],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    report = json.loads(done.stdout)
    block = report["seconds_per_block"]
    return {
        "shape": name,
        "weights_of_a_block": weights,
        "tokens": given.tokens,
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(processor_seconds() - before, 1),
        "seconds_per_block": round(block, 1),
        "blocks": blocks,
        "hours_for_all_blocks": round(block * blocks / 3600, 2),
        "peak_rss_gib": round(report["peak_rss_bytes"] / 2**30, 2),
        "checkpoint_gib": round(sum(f.stat().st_size for f in model.iterdir()) / 2**30, 2),
        "bits_per_weight_linear": report["bits_per_weight_linear"],
    }


def processor_seconds() -> float:
    """Of all threads of finished children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Parse, measure each shape, print a JSON line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--change", default="{}", help="keys of config.json to change, as JSON")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of lrc compress")
    given = parser.parse_args()
    unknown = sorted(set(given.shapes) - set(SHAPES))
    if unknown:
        parser.error(f"no shape is called {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    for name in given.shapes or SHAPES:
        with tempfile.TemporaryDirectory() as work:
            print(json.dumps(measure(name, given, Path(work))), flush=True)


if __name__ == "__main__":
    main()
