"""Write the golden logits of `tests/models/test_parity.py` with Hugging Face transformers.

Needs the extra ``parity``. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_parity_golden.py [CASE ...]

Cases are those of `tests/model_families.py`, all of them unless some are named ("llama-plain").
Each gives the configuration as transformers saves it, ``.json``, and ``.npz`` with the token ids
and the logits in float32. Weights come from a NumPy seed and are not stored.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_families import CASES, FAMILIES, Case
from safetensors.numpy import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)

from lrc.models import declared

SEED = 20260
TOKENS = 64


def compute(case: Case, seed: int) -> tuple[PreTrainedConfig, np.ndarray, np.ndarray]:
    """The configuration, token ids, and the logits that transformers gives for them."""
    config = AutoConfig.for_model(**case.config)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        weights = case.source(seed).weights
        save_file(weights, Path(folder, "model.safetensors"), metadata={"format": "pt"})
        model, said = read(Path(folder), "text_config" in case.config)
    left_out = declared(case.config).ignored
    missing = [name for name in said["missing_keys"] if left_out(name) is None]
    if missing or said["unexpected_keys"] or said["mismatched_keys"]:
        raise RuntimeError(f"{case.golden}: {said}")
    ids = np.random.default_rng(seed + 1).integers(0, case.vocab, (2, TOKENS))
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)).logits.numpy()
    return config, ids, logits


def read(folder: Path, sees: bool) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model of a directory, which may be one that also sees, and what was said of it."""
    auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    return auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )


def write_case(case: Case, seed: int) -> None:
    """Compute and write one case."""
    config, ids, logits = compute(case, seed)
    case.golden.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"seed": seed, "ids": ids.astype(np.int32), "logits": logits}
    np.savez_compressed(case.golden.with_suffix(".npz"), **arrays)
    saved = json.loads(config.to_json_string(use_diff=False))
    text = json.dumps(saved, indent=1, sort_keys=True) + "\n"
    case.golden.with_suffix(".json").write_text(text)


def main(names: list[str]) -> None:
    """Write every case, or those that are named."""
    for family, cases in FAMILIES.items():
        for offset, (name, case) in enumerate(cases.items()):
            if not names or f"{family}-{name}" in names:
                write_case(case, SEED + 10 * offset)


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(CASES)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    main(sys.argv[1:])
