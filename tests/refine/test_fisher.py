"""The Fisher information at a model's own predictions, by probes and by layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import whisper_cases
from model_families import FAMILIES
from packed_cases import random_matrix
from tiny_llama import tiny_model

from lrc.measure.divergence import Prediction
from lrc.models.base import Model
from lrc.nn.linear import DenseLinear
from lrc.nn.ops import Multiply
from lrc.nn.packed import PackedLinear
from lrc.refine import fisher, layer_gradients
from lrc.refine.fisher import FisherProbe
from lrc.refine.layer_gradients import LayerGradients, LayerPlace, batches_of
from lrc.refine.linear import multiply
from lrc.refine.opened import opened
from lrc.refine.vjp import Step

RNG = np.random.default_rng(8)
Found = dict[tuple[int, LayerPlace], LayerGradients]


def windows(model: Model, count: int = 5, length: int = 9) -> list[np.ndarray]:
    ids = np.random.default_rng(3).integers(0, model.vocab_size, (count, length))
    return [row[None] for row in ids]


def gradients_of(
    model: Model, parts, *, power=1.0, outputs=True, weights=False, seed=1, threads=1
) -> Found:
    found: Found = {}

    def keep(block: int, layers) -> None:
        found.update({(block, at): of for at, of in layers.items()})

    layer_gradients.layer_gradients(
        model, parts, keep, power=power, outputs=outputs, weights=weights, seed=seed,
        threads=threads,
    )  # fmt: skip
    return found


def test_the_covariance_is_that_of_labels_drawn_from_the_model(monkeypatch) -> None:
    """Exactly, over all signs that there are."""
    logits = 2 * RNG.standard_normal((3, 7))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    total = np.zeros_like(wanted)
    draws = list(itertools.product((-1, 1), repeat=7))
    for signs in draws:
        monkeypatch.setattr(fisher, "_signs", lambda *_, z=signs: np.tile(z, (3, 1)))
        value, g = FisherProbe([(0,)])(0, slice(0, 3), logits.copy())
        assert value == 0
        np.testing.assert_allclose(g.sum(axis=1), 0, atol=1e-12)
        total += g[:, :, None] * g[:, None, :]
    np.testing.assert_allclose(total / len(draws), wanted, atol=1e-12)


def test_signs_belong_to_the_part_and_the_rows() -> None:
    logits = RNG.standard_normal((4, 33)).astype(np.float32)

    def drawn(seeds, part: int = 0, first: int = 0) -> np.ndarray:
        return FisherProbe(seeds)(part, slice(first, first + 4), logits.copy())[1]

    np.testing.assert_array_equal(drawn([(1, 2)]), drawn([(0, 0), (1, 2)], 1))
    for other in (drawn([(1, 3)]), drawn([(1, 2)], first=4)):
        assert not np.array_equal(other, drawn([(1, 2)]))
    assert drawn([(1, 2)]).dtype == np.float32


def test_an_output_is_what_weights_and_biases_are_pulled_through() -> None:
    """The gradient at a layer's outputs: of which that of the weight is the product with x."""
    x, g = (RNG.standard_normal((6, n)).astype(np.float32) for n in (32, 48))
    dense = DenseLinear(RNG.standard_normal((48, 32)).astype(np.float32), np.zeros(48, np.float32))
    packed = opened(PackedLinear(random_matrix((48, 32), ("uniform", 4)), np.zeros(48, np.float32)))
    op = Multiply((dense, packed), "x", ("a", "b"))
    names = ("0.output", "0.weight", "0.bias", "1.output", "1.bias")
    named = multiply(Step(op, {"x": x}, (g, 2 * g), None), (g, 2 * g), names).named
    np.testing.assert_array_equal(named["0.output"], g)
    np.testing.assert_array_equal(named["1.output"], 2 * g)
    np.testing.assert_allclose(named["0.output"].T @ x, named["0.weight"], rtol=1e-5, atol=1e-5)
    for layer in "01":
        total = named[f"{layer}.output"].sum(axis=0)
        np.testing.assert_allclose(total, named[f"{layer}.bias"], rtol=1e-5, atol=1e-5)


def test_they_are_the_curvature_of_the_divergence() -> None:
    """KL(p || p of changed weights) is half the mean square of what the gradients say of it."""
    model = tiny_model(num_hidden_layers=2)
    parts = windows(model, 2, 12)
    name = "model.layers.0.mlp.up_proj.weight"
    change = 2e-3 * np.random.default_rng(5).standard_normal(model.source.weights[name].shape)

    def logits() -> np.ndarray:
        model.release()
        return np.concatenate([model.logits(part)[0] for part in parts]).astype(np.float32)

    before = logits()
    inputs, squares = inputs_of(model, parts), []
    for seed in range(160):
        of = gradient_rows(model, parts, seed)
        moved = [x @ change.T for x in inputs]
        squares.append(sum(float(np.vdot(g, y)) for g, y in zip(of, moved, strict=True)) ** 2)
    model.source.weights[name] = (model.source.weights[name] + change).astype(np.float32)
    divergence = Prediction(before).divergence(Prediction(logits())).sum()
    spread = np.std(squares) / np.sqrt(len(squares))
    assert abs(0.5 * np.mean(squares) - divergence) < 0.5 * 4 * spread + 0.02 * divergence
    assert spread < 0.2 * np.mean(squares)


def inputs_of(model: Model, parts) -> list[np.ndarray]:
    """What the up projection of the first block sees of each part, (T, n)."""
    inputs = []
    for part in parts:
        block = model.stacks[0].load_block(0)
        values = block.enter({"h": model.stacks[0].start(part)}, _pass(part))
        for site in range(2):
            values = block.step(site, values, _pass(part))
        inputs.append(values[block.layers_of(2).source][0])
    assert block.sites[2].linears[1] == "mlp.up_proj"
    return inputs


def _pass(part):
    from lrc.nn.ops import Pass

    return Pass(np.arange(part.shape[1]))


def gradient_rows(model: Model, parts, seed: int) -> list[np.ndarray]:
    """Gradients (T, m) at the outputs of the layer above, of each part."""
    rows: list[np.ndarray] = []

    class Watched(LayerGradients):
        def add(self, g, power, *, outputs) -> None:
            rows.append(g.copy())

    original = layer_gradients.LayerGradients
    layer_gradients.LayerGradients = Watched
    try:
        found = gradients_of(model, parts, seed=seed)
    finally:
        layer_gradients.LayerGradients = original
    order = list(found)  # from the top block down, as they come in
    wanted = (0, LayerPlace(2, 1))
    return [g for of, g in _with_layers(order, rows, len(parts)) if of == wanted]


def _with_layers(order, rows, parts: int):
    """Gradients come part by part within a block, its layers from the last operation down."""
    at = 0
    for block in dict.fromkeys(block for block, _ in order):
        layers = [key for key in order if key[0] == block]
        for _ in range(parts):
            for key in layers:
                yield key, rows[at]
                at += 1


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_moments_are_those_of_the_gradients(power: float) -> None:
    model = tiny_model(num_hidden_layers=1)
    parts = windows(model)
    found = gradients_of(model, parts, power=power)
    rows = np.concatenate(gradient_rows(model, parts, 1))
    of = found[0, LayerPlace(2, 1)]
    energy = np.square(rows).sum(axis=1)
    np.testing.assert_allclose(np.concatenate(of.energies), energy, rtol=1e-5)
    weighed = rows * energy[:, None] ** (0.5 * (power - 1))
    np.testing.assert_allclose(of.moment, weighed.T @ weighed, rtol=1e-4, atol=1e-6 * len(rows))
    without = gradients_of(model, parts, outputs=False)[0, LayerPlace(2, 1)]
    assert without.moment is None
    np.testing.assert_array_equal(without.energies, of.energies)


def test_information_of_weights_is_of_the_gradient_of_each_part() -> None:
    model = tiny_model(num_hidden_layers=2)
    parts = windows(model, 3, 7)
    squares = [
        np.square(g.astype(np.float64).T @ x)
        for g, x in zip(gradient_rows(model, parts, 1), inputs_of(model, parts), strict=True)
    ]
    of = gradients_of(model, parts, weights=True, threads=2)[0, LayerPlace(2, 1)]
    np.testing.assert_allclose(of.columns, sum(squares).sum(axis=0), rtol=1e-4)
    np.testing.assert_allclose(of.rows, sum(squares).sum(axis=1), rtol=1e-4)
    assert gradients_of(model, parts)[0, LayerPlace(2, 1)].columns is None


def test_threads_change_no_bit() -> None:
    model = tiny_model()
    one, three = (gradients_of(model, windows(model), threads=n) for n in (1, 3))
    assert one.keys() == three.keys()
    for key, of in one.items():
        np.testing.assert_array_equal(of.moment, three[key].moment)


def test_batches_are_as_large_as_memory_allows(monkeypatch) -> None:
    model = tiny_model(num_hidden_layers=2)
    parts = windows(model, 5, 9)
    assert list(batches_of(model, parts)) == [slice(0, 5)]
    one = 4 * 32 * 9 * 4  # hidden 32, two blocks and both ends
    monkeypatch.setattr(layer_gradients, "BATCH_BYTES", 2 * one)
    assert list(batches_of(model, parts)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    monkeypatch.setattr(layer_gradients, "BATCH_BYTES", 1)
    assert len(list(batches_of(model, parts))) == 5


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_gradients_at_every_layer(name: str) -> None:
    """But for experts that no token is routed to."""
    model = next(iter(FAMILIES[name].values())).model(4)
    found = gradients_of(model, windows(model, 2, 9))
    matrices = model.tensors.matrices
    experts = sum("experts" in of for of in matrices)
    assert len(matrices) - experts <= len(found) <= len(matrices)
    for (block, at), of in found.items():
        site = model.stacks[0].load_block(block).sites[at.site]
        m = model.tensors.shape(model.tensors.linears(block)[site.linears[at.layer]])[0]
        assert of.moment is not None
        assert of.moment.shape == (m, m)
        assert np.isfinite(of.moment).all()


def test_a_model_that_hears_has_them_in_both_stacks() -> None:
    case = next(iter(whisper_cases.CASES.values()))
    model = case.model(4)
    found = gradients_of(model, [(case.features(4, 1), case.ids(2, 1, 5))])
    assert len(found) == len(model.tensors.matrices)
    assert {block for block, _ in found} == set(range(model.tensors.blocks))
