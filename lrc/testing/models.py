"""Laws of models: a family, of this library or another, inherits its tests from here.

Each function raises AssertionError when its law is broken. Models are small: weights of all
blocks are read at once.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import single_threaded_blas
from lrc.formats.view import stored_shapes
from lrc.models.base import Block, Model, Stack
from lrc.models.block import ProgramBlock
from lrc.models.source import Array, Ids
from lrc.models.sweep import sweep
from lrc.models.tensors import EMBEDDING, HEAD, Matrix, Plain, Table, Tensors, linear_of
from lrc.models.views import layouts
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import Linear
from lrc.nn.ops import STREAM, Pass, Values
from lrc.testing.tolerance import assert_within, relative_difference

#: Relative difference of logits that are the same sums in another order, of a tiny model.
REORDERED = 1e-5


def check_claims(model: Model) -> None:
    """Every stored tensor is read or known to be left out, and has one place in the model.

    Blocks have the linear layers that their sites name, of the shapes that are declared, each in
    one site; a model has one embedding and at most one head.
    """
    tensors, stored = model.tensors, set(model.source.names())
    claimed = [name for name in stored if tensors.role(name) is not None]
    assert sorted(claimed) == sorted(stored), f"no place for {sorted(stored - set(claimed))}"
    assert set(tensors.read) <= stored, f"not stored: {sorted(set(tensors.read) - stored)}"
    places = Counter(tensor.role for tensor in tensors.read.values())
    assert places.most_common(1)[0][1] == 1, f"claimed twice: {places.most_common(1)[0][0]}"
    _check_layouts(tensors)
    tables = [place.role for place in places if isinstance(place, Table)]
    assert sorted(tables) in ([EMBEDDING], sorted([EMBEDDING, HEAD])), f"tables {tables}"
    matrices = {place for place in places if isinstance(place, Matrix)}
    assert sum(map(len, model.stacks)) == tensors.blocks
    found = set()
    for stack in model.stacks:
        for index in range(len(stack)):
            block = stack.load_block(index)
            place = stack.first + index
            found |= {Matrix(place, s.name, key) for s in block.sites for key in s.linears}
            for key, name in stack.linears(index).items():
                assert tensors.matrices[linear_of(name)].key == key
                assert block.linears[key].shape == tensors.shape(name)
    assert found == matrices, f"sites and tensors differ in {sorted(map(str, found ^ matrices))}"
    for name, tensor in tensors.read.items():
        assert len(tensor.shape) == 2 or isinstance(tensor.role, Plain), name
        assert tuple(model.source.shape(name)) == tensor.shape, name


def check_sites(stack: Stack, inputs: NDArray[Any], given: Values = MappingProxyType({})) -> None:
    """Site by site is the whole block, to the bit; nothing is written to; widths are declared.

    ``given``: what blocks find beside the stream, such as another stack's memory.
    """
    h = stack.start(inputs)
    at, shape = Pass(np.arange(h.shape[1])), h.shape
    for index in range(len(stack)):
        block = stack.load_block(index)
        values = block.enter({**given, STREAM: h}, at)
        for site_index, site in enumerate(block.sites):
            width = values[block.layers_of(site_index).source].shape[-1]
            assert {block.linears[key].shape[1] for key in site.linears} == {width}
            before = {name: value.copy() for name, value in values.items()}
            moved = block.step(site_index, values, at)
            for name, value in values.items():
                np.testing.assert_array_equal(value, before[name])
            wrote = moved[STREAM] is not values[STREAM]
            assert site.writes or not wrote, f"{site.name} does not say that it writes"
            values = moved
        assert set(values) == {STREAM}
        _check_replaced(block, h, at, given)
        whole = block(h, at.positions, given=given)
        np.testing.assert_array_equal(values[STREAM], whole)
        h = whole
    assert h.shape == shape


def _check_layouts(tensors: Tensors) -> None:
    """In the usual layout and in others, tensors fill those that are stored, each place once."""
    for which in (0, -1):
        views = {name: layouts(name, tensors)[which] for name in tensors.read}
        shapes = stored_shapes(views, tensors.shape)
        places = {name: np.zeros(shape, np.int8) for name, shape in shapes.items()}
        for name, view in views.items():
            place = places[view.stored]
            assert view.shape(place.shape) == tensors.shape(name), f"{name}: another shape"
            view.put(view.of(place) + 1, place)
        wrong = [name for name, place in places.items() if (place != 1).any()]
        assert not wrong, f"not filled by their parts: {', '.join(wrong)}"


def _check_replaced(block: Block, h: Array, at: Pass, given: Values) -> None:
    """A block with other layers, one by one, computes what one that was made with them does."""
    if not isinstance(block, ProgramBlock):
        return
    other = {key: _Halved(linear) for key, linear in block.linears.items()}
    made = replace(block, linears={**block.linears, **other})
    changed = block
    for key, linear in other.items():
        changed = changed.with_linears({key: linear})
    found, expected = (b(h, at.positions, given=given) for b in (changed, made))
    np.testing.assert_array_equal(found, expected)
    assert len(changed.ops()) == len(made.ops())


class _Halved:
    """Half of what a linear layer gives."""

    def __init__(self, linear: Linear) -> None:
        self._linear = linear

    @property
    def shape(self) -> tuple[int, int]:
        """That of the other."""
        return self._linear.shape

    def __call__(self, x: Array, execution: Execution = PLAIN) -> Array:
        """Half of it."""
        return self._linear(x, execution) * np.float32(0.5)


def check_cached(model: Model, ids: Ids, cuts: Sequence[int]) -> None:
    """Logits of token ids (B, T) cut anywhere, in ascending order, are those of the whole."""
    whole = model.logits(ids)
    assert whole.shape == (*ids.shape, model.vocab_size)
    cache = model.new_cache(*ids.shape)
    edges = [0, *cuts, ids.shape[1]]
    parts = [model.logits(ids[:, a:b], cache) for a, b in itertools.pairwise(edges)]
    assert cache.length == ids.shape[1]
    got = np.concatenate(parts, axis=1)
    assert_within(relative_difference(got, whole), REORDERED, f"logits cut at {list(cuts)}")


def check_causal(model: Model, ids: Ids, position: int) -> None:
    """No token sees a later one, nor another sequence."""
    whole = model.logits(ids)
    changed = ids.copy()
    changed[:, position:] = (changed[:, position:] + 1) % model.vocab_size
    seen = relative_difference(model.logits(changed)[:, :position], whole[:, :position])
    assert_within(seen, REORDERED, f"logits before position {position}")
    alone = relative_difference(model.logits(ids[:1]), whole[:1])
    assert_within(alone, REORDERED, "logits of the first sequence alone")


def check_sweep(model: Model, parts: Sequence[Ids]) -> None:
    """Block by block is the forward pass, to the bit, whatever the threads."""
    with single_threaded_blas():
        whole = [model.hidden(part) for part in parts]
    for threads in (1, 2):
        for expected, swept in zip(whole, sweep(model, parts, threads), strict=True):
            np.testing.assert_array_equal(swept, expected)


def check_tables(stack: Stack, ids: Ids) -> None:
    """Other tables reach both ends, and only those: a tied head follows the embedding.

    With tables of zeros, nothing but positions is left at one end, and a bias at the other.
    """
    h = stack.start(ids)
    logits = stack.finish(h)
    table = np.zeros((logits.shape[-1], h.shape[-1]), np.float32)
    empty = stack.with_tables({EMBEDDING: table})
    np.testing.assert_array_equal(empty.start(ids), empty.start(0 * ids))
    np.testing.assert_array_equal(stack.start(ids), h)
    headless = stack.with_tables({EMBEDDING: table, HEAD: table})
    np.testing.assert_array_equal(headless.finish(h), headless.finish(0 * h))
    np.testing.assert_array_equal(stack.finish(h), logits)
