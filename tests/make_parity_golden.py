"""Write the golden logits of `tests/models/test_parity.py` with Hugging Face transformers.

Needs the extra ``parity``. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_parity_golden.py

Each case gives ``NAME.json``, the configuration as transformers saves it, and ``NAME.npz``
with the token ids and the logits in float32. Weights come from a NumPy seed and are not stored.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tiny_llama import PARITY_CASES, tiny_config, tiny_weights
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = Path(__file__).parent / "data" / "golden" / "parity"
SEED = 20260
TOKENS = 64


def write_case(name: str, seed: int) -> None:
    """Compute and write one case."""
    given = tiny_config(**PARITY_CASES[name])
    config = LlamaConfig(**{k: v for k, v in given.items() if k != "model_type"})
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    state = {k: torch.from_numpy(v) for k, v in tiny_weights(given, seed).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = {"lm_head.weight"} if given["tie_word_embeddings"] else set()
    if set(missing) - tied or unexpected:
        raise RuntimeError(f"{name}: missing {missing}, unexpected {unexpected}")
    ids = np.random.default_rng(seed + 1).integers(0, given["vocab_size"], (2, TOKENS))
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)).logits.numpy()
    np.savez_compressed(FOLDER / f"{name}.npz", seed=seed, ids=ids.astype(np.int32), logits=logits)
    saved = json.loads(config.to_json_string(use_diff=False))
    (FOLDER / f"{name}.json").write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Write every case."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for offset, name in enumerate(PARITY_CASES):
        write_case(name, SEED + 10 * offset)


if __name__ == "__main__":
    main()
