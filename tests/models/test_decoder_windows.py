"""Windows of attention: a rule for all blocks, or a list of the kinds of each."""

from __future__ import annotations

import numpy as np
import pytest
from model_families import CASES
from random_weights import MemorySource, random_weights

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import FULL, SLIDING, Windows
from lrc.testing import models as laws


@pytest.mark.parametrize(
    ("rule", "kinds", "expected"),
    [
        (Windows(), None, (0, 0, 0)),
        (Windows(), [FULL] * 3, (0, 0, 0)),
        (Windows(8), None, (8, 8, 8)),
        (Windows(8), [SLIDING] * 3, (8, 8, 8)),
        (Windows(8, first=2), None, (0, 0, 8)),
        (Windows(8, first=9), None, (0, 0, 0)),
        (Windows(8, every=2), None, (8, 0, 8)),
        (Windows(8, every=1), None, (0, 0, 0)),
        (Windows(8, first=1, every=3), None, (0, 8, 0)),
        (Windows(0, every=2), None, (0, 0, 0)),
        (Windows(0, first=1, by_layer=True), [FULL] * 3, (0, 0, 0)),
        (Windows(8, first=9, by_layer=True), [SLIDING, FULL, SLIDING], (8, 0, 8)),
    ],
)
def test_the_window_of_each_block(
    rule: Windows, kinds: list[str] | None, expected: tuple[int, ...]
) -> None:
    assert rule.of({"layer_types": kinds}, 3) == expected


@pytest.mark.parametrize(
    ("rule", "kinds", "named"),
    [
        (Windows(), [FULL, SLIDING], "'sliding_attention' for block 1; only full_attention"),
        (Windows(8), [FULL, SLIDING], "'full_attention' for block 0; only sliding_attention"),
        (Windows(0, by_layer=True), [FULL, SLIDING], "'sliding_attention' for block 1"),
        (Windows(8, by_layer=True), [FULL, "linear_attention"], "'linear_attention' for block 1"),
    ],
)
def test_what_is_not_computed_is_named(rule: Windows, kinds: list[str], named: str) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        rule.of({"layer_types": kinds}, 2)


@pytest.mark.parametrize("kinds", [[FULL], [FULL] * 3, FULL, []])
def test_kinds_are_as_many_as_blocks(kinds: object) -> None:
    with pytest.raises(FormatError, match="num_hidden_layers=2"):
        Windows().of({"layer_types": kinds}, 2)


def test_no_token_sees_one_before_its_window() -> None:
    """Two blocks of 4: logits depend on the last 7 tokens, and on the seventh of them."""
    keys = decoder_keys("toy")
    toy = DecoderFamily(
        "toy",
        lambda config: DecoderConfig(**decoder_fields(config, keys, windows=Windows(4))),
        decoder_tensors,
        DecoderBlock,
    )
    config = dict(CASES["llama-plain"].config)
    model = toy.open(MemorySource(config, random_weights(toy.declared(config), 4)))
    ids = np.random.default_rng(5).integers(1, 48, (1, 20))
    whole = model.logits(ids)[0, -1]
    for position, seen in ((12, False), (13, True)):
        changed = ids.copy()
        changed[:, : position + 1] -= 1
        differs = np.abs(model.logits(changed)[0, -1] - whole).max() > 1e-4
        assert differs == seen
    laws.check_cached(model, ids, [3, 11, 12])
    laws.check_sites(model.stacks[0], ids)
