"""Write what transformers makes of the rotary settings of `tests/rope_cases.py`.

Needs the extra ``parity``. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_rope_golden.py

For each case there are the rotary settings as transformers saves them, and for each kind of block
and length the inverse frequencies and the factor of cosines and sines. Each length is of a new
model, whose frequencies follow from nothing before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rope_cases import ROTARIES, SETTINGS, config
from transformers import AutoConfig, AutoModel

FILE = Path(__file__).parent / "data" / "golden" / "rope.json"
#: On both sides of every switch, which are at 32, 64 and 128 tokens.
LENGTHS = (8, 16, 17, 33, 128, 129, 500)


def rotary(name: str) -> Any:
    """The module that computes cosines and sines in a model of this configuration."""
    model = AutoModel.from_config(AutoConfig.for_model(**config(name)))
    return model.rotary_emb


def answer(name: str, length: int, layer_type: str | None) -> dict[str, Any]:
    """Frequencies and factor of a text of so many tokens."""
    module = rotary(name)
    how = {"layer_type": layer_type} if layer_type else {}
    module(torch.zeros(1, length, 1), torch.arange(length)[None], **how)
    prefix = f"{layer_type}_" if layer_type else ""
    return {
        "frequencies": getattr(module, f"{prefix}inv_freq").tolist(),
        "attention_factor": float(getattr(module, f"{prefix}attention_scaling")),
    }


def saved(name: str) -> dict[str, Any]:
    """What transformers saves of such a configuration, without what is not of positions."""
    written = AutoConfig.for_model(**config(name)).to_dict()
    return {
        key: value
        for key, value in written.items()
        if "rop" in key or "rota" in key or "position" in key
    }


def answers(name: str) -> dict[str, dict[str, Any]]:
    """By the kind of block, where there are several, and from which length on they hold."""
    rule = ROTARIES[SETTINGS[name][0]]
    found: dict[str, dict[str, Any]] = {}
    for layer_type in rule if isinstance(rule, Mapping) else (None,):
        of = {length: answer(name, length, layer_type) for length in LENGTHS}
        found[layer_type or ""] = {
            str(length): now
            for length, before, now in zip(of, [None, *of.values()], of.values(), strict=False)
            if now != before
        }
    return found


if __name__ == "__main__":
    golden = {name: {"saved": saved(name), "ropes": answers(name)} for name in SETTINGS}
    FILE.write_text(json.dumps({"lengths": LENGTHS, "cases": golden}, indent=0) + "\n")
