"""Write the golden texts: what the trained model writes, dense and from a golden packed directory.

Run from the repository's root, after `make_trained_model.py` or for a new format version, with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_text.py

``model/`` is the trained model, compressed with every kind of code that decodes on its own path:
trellis, lattice and scalar codes beside one another at the same sites, some with L R.
``texts.json`` holds a prompt for each and the likeliest text after it. Of many prompts it is the
one after which the likeliest token leads the next by the most: integers and the sums of another
BLAS move logits a little, and no text may hang on that.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lrc
from lrc.models.base import Model
from lrc.pipeline.compress import compress
from lrc.run.text import TokenIds, token_windows
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec, MatrixSpec, QuantSpec

DATA = Path(__file__).parent / "data"
TRAINED = DATA / "trained" / "model"
FOLDER = DATA / "golden" / "text"
#: Tokens of each prompt and of the text after it.
PROMPT, TOKENS = 24, 32
#: Least different tokens of a text: what repeats itself says little.
DIFFERENT = 22
#: Matrices that differ from 3 bits on a trellis: codebook, bits, rank.
OTHERS = {
    "model.layers.0.self_attn.v_proj": ("e8p-rvq3", 3, 0),
    "model.layers.0.mlp.up_proj": ("lloyd-max", 4, 4),
    "model.layers.0.mlp.down_proj": ("e8p-rvq4", 4, 0),
    "model.layers.1.self_attn.q_proj": ("e8p", 2, 16),
    "model.layers.1.self_attn.o_proj": ("uniform", 4, 0),
    "model.layers.2.mlp.gate_proj": ("trellis12", 2, 16),
    "model.layers.2.mlp.down_proj": ("trellis8", 4, 0),
}


def spec() -> CompressSpec:
    """Three bits, and `OTHERS`."""
    matrices = {
        name: MatrixSpec(QuantSpec(codebook, bits), LowRankSpec(rank))
        for name, (codebook, bits, rank) in OTHERS.items()
    }
    common = DecomposeSpec(quant=QuantSpec.for_bits(3), low_rank=LowRankSpec(0))
    return CompressSpec(decompose=common, matrices=matrices)


def follow(model: Model, prompts: NDArray[np.integer]) -> tuple[TokenIds, NDArray[np.floating]]:
    """The likeliest `TOKENS` after each prompt, and the least lead of one of them in logits."""
    cache = model.new_cache(len(prompts), prompts.shape[1] + TOKENS)
    texts, leads, ids = [], [], prompts
    for _ in range(TOKENS):
        logits = model.logits(ids, cache)[:, -1]
        second, first = np.partition(logits, -2)[:, -2:].T
        ids = logits.argmax(axis=1)[:, None]
        texts.append(ids)
        leads.append(first - second)
    return np.concatenate(texts, axis=1), np.min(leads, axis=0)


def surest(loaded: lrc.LoadedModel, prompts: TokenIds) -> dict[str, Any]:
    """The prompt whose text leads all others the most, with that text, of those that vary."""
    tokenizer = loaded.tokenizer
    texts, leads = follow(loaded.model, prompts)
    for i in np.argsort(-leads):
        prompt, text = tokenizer.decode(prompts[i]), tokenizer.decode(texts[i])
        again = np.array_equal(tokenizer.encode(prompt), prompts[i])
        used = set(texts[i].tolist())
        if again and len(used) >= DIFFERENT and not used & set(tokenizer.eos_ids):
            return {"prompt": prompt, "text": text, "lead": round(float(leads[i]), 3)}
    raise RuntimeError("every text ends early or repeats itself; give more prompts")


def main() -> None:
    """Write everything anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    dense = lrc.load(TRAINED)
    text = (DATA / "trained" / "calibration.txt").read_text(encoding="utf-8")
    ids = dense.tokenizer.encode(text)
    compress(TRAINED, FOLDER / "model", spec(), threads=1, windows=token_windows(ids, 128))
    prompts = token_windows(ids, PROMPT)
    packed = lrc.load(FOLDER / "model")
    record = {"dense": surest(dense, prompts), "packed": surest(packed, prompts)}
    (FOLDER / "texts.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
