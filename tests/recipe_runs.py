"""Methods of the literature on small models: one that was trained, and random ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
from model_families import FAMILIES
from random_weights import random_weights

from lrc.models import declared

Lrc = Callable[..., Any]
TRAINED = Path(__file__).parent / "data" / "trained"
CALIBRATION, HELDOUT = TRAINED / "calibration.txt", TRAINED / "heldout.txt"


def divergence(lrc: Lrc, out: Path, *options: str) -> float:
    """KL of the trained model compressed with these options, on text it was not calibrated on."""
    dense = TRAINED / "model"
    quick = ("--nsamples", "8", "--seqlen", "256", "--quiet", "--threads", "1")
    lrc("compress", dense, "-o", out, "--calib", CALIBRATION, *quick, *options).check()
    judged = ("--text", HELDOUT, "--against", dense, "--ctx", 128, "--windows", 8)
    return float(lrc("eval", out, *judged, "--activations", "f32", "--quiet", "--json").check()
                 .json["kl_divergence"])  # fmt: skip


def random_dense(family: str, folder: Path) -> Path:
    """The first case of a family, over the bytes that the tiny tokenizer knows."""
    case = next(iter(FAMILIES[family].values()))
    config = case.changed(vocab_size=258, bos_token_id=256, eos_token_id=257)
    weights = random_weights(declared(config), 5)
    return tiny.write_directory(folder / "model", config, weights)
