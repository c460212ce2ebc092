"""What the trained model writes, dense and packed, is what it wrote when the files were made.

The text goes through everything that ``lrc generate`` goes through: tokenizer, prompt, engines on
codes of every kind at once, head, sampler, detokenizer. It holds on any machine, for the least lead
of its tokens (``lead`` in ``texts.json``) is several times what integer activations move logits by.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from make_golden_text import FOLDER, OTHERS, TOKENS, TRAINED, follow

from lrc.parts.packed import PackedCheckpoint
from lrc.run.load import load

Lrc = Callable[..., Any]

MODELS = {"dense": TRAINED, "packed": FOLDER / "model"}
GOLDEN = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("activations", ["i8", "f32"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_text_is_the_golden_one(kind: str, activations: str, threads: int, lrc: Lrc) -> None:
    options = ("--max-tokens", TOKENS, "--temp", 0, "--threads", threads)
    prompt = ("-p", GOLDEN[kind]["prompt"], "--activations", activations, "--quiet")
    assert lrc("generate", MODELS[kind], *prompt, *options).check().out == (
        GOLDEN[kind]["text"] + "\n"
    )


@pytest.mark.parametrize("kind", MODELS)
def test_leads_are_those_of_the_file_and_comfortable(kind: str) -> None:
    loaded = load(MODELS[kind])
    prompt = loaded.tokenizer.encode(GOLDEN[kind]["prompt"])
    texts, leads = follow(loaded.model, prompt[None])
    assert loaded.tokenizer.decode(texts[0]) == GOLDEN[kind]["text"]
    # Three digits are stored; sums in another order move float32 logits by far less.
    np.testing.assert_allclose(leads, GOLDEN[kind]["lead"], atol=2e-3)
    assert leads > 0.2


def test_the_packed_model_mixes_codes_within_sites() -> None:
    records = PackedCheckpoint.open(MODELS["packed"]).report["matrices"]
    for name, (codebook, bits, _) in OTHERS.items():
        found = records[f"{name}.weight"]["parts"][0]
        assert (found["codebook"], found["bits"]) == (codebook, bits)
    assert records["model.layers.0.self_attn.q_proj.weight"]["parts"][0]["codebook"] == "trellis12"
