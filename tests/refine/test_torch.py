"""Gradients equal those of PyTorch's autograd, where the extra ``parity`` is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_families import CASES
from safetensors.numpy import save_file

from lrc.models import load_model
from lrc.nn.ops import Multiply
from lrc.refine.backward import Backward
from lrc.refine.changed import Changed
from lrc.refine.gradients import Place
from lrc.refine.rules import arrays
from lrc.testing.gradients import Weighted

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["llama-grouped_tied", "gemma2-alternating", "mamba-plain"])
def test_gradients_are_those_of_autograd(name: str, tmp_path: Path) -> None:
    from make_parity_golden import read
    from transformers import AutoConfig

    case, seed = CASES[name], 9
    source = case.source(seed)
    AutoConfig.for_model(**case.config).save_pretrained(tmp_path)
    save_file(source.weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs, _ = read(tmp_path, False)
    ids = np.random.default_rng(seed).integers(0, case.vocab, (2, 40))
    weights = np.random.default_rng(1).uniform(0.5, 1.5, (2 * 39, case.vocab))
    logits = theirs(torch.from_numpy(ids)).logits[:, 1:].reshape(-1, case.vocab)
    (0.5 * (torch.from_numpy(weights).float() * logits**2).sum()).backward()
    grads = {key: p.grad.numpy() for key, p in theirs.named_parameters()}

    model = load_model(source)
    (stack,) = model.stacks
    programs = {Place(0, i): stack.load_block(i).ops() for i in range(len(stack))}
    asked = {
        place: {i: arrays(op) for i, op in enumerate(ops) if isinstance(op, Multiply)}
        for place, ops in programs.items()
    }
    loss = Weighted([(2 * 39, case.vocab)], 1)
    loss._weights = [weights.astype(np.float32)]
    found = Backward(model, Changed(asked)).gradients([ids], loss)
    compared = 0
    for place, ops in programs.items():
        block, names = stack.load_block(place.part), stack.linears(place.part)
        for i in asked[place]:
            for j, linear in enumerate(ops[i].linears):
                (key,) = (
                    k for k, f in block.linears.items() if np.shares_memory(f.weight, linear.weight)
                )
                expected = grads[names[key]]
                got = found.arrays[place][i][f"{j}.weight"]
                assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max(), names[key]
                compared += 1
    assert compared == len(model.tensors.matrices)
