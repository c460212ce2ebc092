"""Seconds a calibration token against transformers, side by side: models of about 100M weights.

    python bench/calibration_speed.py [llama mixtral mamba] [--rounds 5] [--threads 1]

Needs the extra ``parity``. Both run the same random weights in float32 on as many threads, in one
process and in turn; hidden states must agree before anything is timed. Ours is the walk of a
calibration, `lrc.models.sweep`, block by block over all windows; a second figure adds the second
moments, which transformers does not take. One JSON line a model; ratios are ours / theirs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness  # first: it pins the threads
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from random_weights import MemorySource, random_weights
from safetensors.numpy import save_file

from lrc.calibrate.site_moment import site_moment
from lrc.calibrate.streams import window_chunks
from lrc.calibrate.walk import start_stream
from lrc.models import declared, load_model
from lrc.models.base import Model
from lrc.models.sweep import sweep

WINDOWS, TOKENS = 4, 512
_COMMON = {"vocab_size": 4096, "bos_token_id": 1, "eos_token_id": 2}
_DECODER = _COMMON | {
    "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": _DECODER | {"model_type": "llama"},
    "mixtral": _DECODER | {
        "model_type": "mixtral", "hidden_size": 512, "intermediate_size": 1024,
        "num_attention_heads": 8, "num_hidden_layers": 8, "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "mamba": _COMMON | {
        "model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "state_size": 16,
        "tie_word_embeddings": True,
    },
}  # fmt: skip


def moments(model: Model, ids: Any, threads: int) -> None:
    """The walk of a calibration with the second moments of every site."""
    (stack,) = model.stacks
    stream = start_stream(stack, window_chunks(ids), threads)
    for index in range(len(stack)):
        block = stack.load_block(index)
        stream.enter(block, threads)
        for site_index in range(len(block.sites)):
            site_moment(stream, None, threads).matrix()
            stream.step(block, site_index, threads)


def seconds(run: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(name: str, rounds: int, threads: int) -> dict[str, Any]:
    """Check one model, then time both in turn."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(threads)
    config = dict(MODELS[name])
    # At half of their usual size: deep random models amplify what is rounded.
    weights = {k: w / 2 for k, w in random_weights(declared(config), 3).items()}
    source = MemorySource(config, weights)
    model = load_model(source)
    with tempfile.TemporaryDirectory() as folder:
        AutoConfig.for_model(**config).save_pretrained(folder)
        save_file(source.weights, Path(folder, "model.safetensors"), metadata={"format": "pt"})
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = np.random.default_rng(4).integers(3, config["vocab_size"], (WINDOWS, TOKENS))
    tokens = torch.from_numpy(ids)

    def run_theirs() -> Any:
        with torch.no_grad():
            return theirs.base_model(tokens, use_cache=False).last_hidden_state

    def run_ours() -> Any:
        return sweep(model, [window[None] for window in ids], threads)

    ours = model.head(np.concatenate(run_ours()))
    with torch.no_grad():
        expected = theirs.lm_head(run_theirs()).numpy()
    worst = float(np.abs(ours - expected).max() / np.abs(expected).max())
    assert worst < 1e-4, f"{name}: logits differ by {worst}, so nothing is timed"
    moments(model, ids[:1], threads)
    times = [
        (seconds(run_ours), seconds(lambda: moments(model, ids, threads)), seconds(run_theirs))
        for _ in range(rounds)
    ]
    forward = sorted(a / c for a, _, c in times)
    ours_ms, moments_ms, theirs_ms = (
        round(1e3 * statistics.median(column) / ids.size, 4) for column in zip(*times, strict=True)
    )
    return {
        "model": name,
        "weights": sum(int(np.prod(v.shape)) for v in source.weights.values()),
        "threads": threads,
        "ms_a_token": ours_ms,
        "ms_a_token_with_moments": moments_ms,
        "ms_a_token_transformers": theirs_ms,
        "ratio": round(statistics.median(forward), 3),
        "range": [round(forward[0], 3), round(forward[-1], 3)],
        "ratio_with_moments": round(statistics.median(b / c for _, b, c in times), 3),
    }


def main() -> None:
    """Parse, compare, print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=int(harness.THREADS))
    given = parser.parse_args()
    for name in given.models:
        print(json.dumps(compare(name, given.rounds, given.threads)), flush=True)


if __name__ == "__main__":
    main()
