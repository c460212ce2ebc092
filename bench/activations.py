"""What integer activations cost: KL between exact and integer decoding of a text, token by token.

    python bench/activations.py COMPRESSED --text TEXT [--windows 40] [--ctx 512] [--threads N]

The exact predictions come from float32 activations, a window at a time; the others from decoding
every token by itself on pairs of int8. The second half of each window is scored. One JSON line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import harness  # first: it pins the threads
import numpy as np
from numpy.typing import NDArray

from lrc.measure.evaluate import text_windows
from lrc.models.base import Model
from lrc.run.generate import Decoder
from lrc.run.load import load


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log probabilities along the last axis."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def divergences(model: Model, window: NDArray[np.integer], threads: int) -> NDArray[np.float64]:
    """KL(exact || integer) at each position of the second half of a window: (ctx / 2,)."""
    half = len(window) // 2
    exact = model.head(model.hidden(window[None])[0, half:])
    decoder = Decoder(model, len(window), threads, "i8")
    found = []
    for i, token in enumerate(window):
        logits = decoder.advance(np.array([token]))
        if i >= half:
            p = log_softmax(exact[i - half])
            found.append(float(np.sum(np.exp(p) * (p - log_softmax(logits)))))
    return np.array(found)


def main() -> None:
    """Parse, measure, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    loaded = load(given.model)
    text = given.text.read_text(encoding="utf-8")
    windows = text_windows(loaded.tokenizer, text, given.ctx, given.windows)
    means = [divergences(loaded.model, w, given.threads).mean() for w in windows]
    record = {
        "case": "integer against float32 activations",
        "model": str(given.model),
        "windows": len(windows),
        "kl": float(np.mean(means)),
        "kl_largest_window": float(np.max(means)),
    }
    print(json.dumps({**harness.environment(), **record}))


if __name__ == "__main__":
    main()
