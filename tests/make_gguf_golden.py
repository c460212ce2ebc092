"""Write the golden data of `tests/convert/test_gguf_models.py` with Hugging Face transformers.

Needs the extra ``parity``. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_gguf_golden.py

For every case of `tests/gguf_models.py`: names and shapes of the tensors that transformers saves,
the config.json that the import makes of the file's settings, and logits of the model with random
weights. A model made from that config.json must give the same logits.
"""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf_models import CASES, GOLDEN, GgufCase, draw, shifted, stored
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from lrc.convert.gguf.architectures import architecture, hf_config
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.rope import FACTORS

SEED, TOKENS, KEPT = 4711, 14, 3
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}


def saved_shapes(config: Any, folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what transformers writes for a model of this configuration."""
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return {name: values.shape for name, values in load_file(folder / "model.safetensors").items()}


def logits(folder: Path, config: Any, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits of the last tokens, by the weights in a folder."""
    config._attn_implementation = "eager"
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True
    )
    if report["missing_keys"] or report["unexpected_keys"]:
        raise RuntimeError(report)
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(ids[None])).logits[0, -KEPT:]
    return np.asarray(found.numpy())


def imported_config(case: GgufCase, weights: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """What the import makes of the file's settings."""
    tensors = stored(case, weights)
    fields = {"general.architecture": case.architecture} | {
        f"{case.architecture}.{key}": value
        for key, value in case.fields.items()
        if value is not None
    }
    meta = Metadata(fields, {name: values.shape for name, values in tensors.items()})
    factors = {name: tensors[name] for name in FACTORS if name in tensors}
    return hf_config(architecture(case.architecture), meta, factors)


def make(name: str, case: GgufCase, folder: Path) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Golden data of one case."""
    config = AutoConfig.for_model(**copy.deepcopy(dict(case.config)))
    shapes = saved_shapes(config, folder)
    weights = draw(shapes, shifted(case), SEED)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    ids = np.random.default_rng(SEED).integers(0, 200, TOKENS)
    expected = logits(folder, config, ids)
    made = imported_config(case, weights)
    found = logits(folder, AutoConfig.for_model(**copy.deepcopy(made), **IDS), ids)
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    if worst > 1e-5:
        raise RuntimeError(f"{name}: logits differ by {worst} with {made}")
    return {"shapes": shapes, "config": made, "ids": ids.tolist()}, expected


def main() -> None:
    """Write both files."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    described, found = {}, {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            described[name], found[name] = make(name, case, Path(folder))
    lines = [f"{json.dumps(name)}: {json.dumps(d)}" for name, d in described.items()]
    (GOLDEN / "models.json").write_text("{" + ",\n".join(lines) + "}\n")
    np.savez_compressed(GOLDEN / "logits.npz", **found)


if __name__ == "__main__":
    main()
