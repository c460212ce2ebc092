"""The configuration that dense decoders share: what is absent is not what is null."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_llama import tiny_config

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import declared
from lrc.models.decoder_config import Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys

DEFAULTS = Defaults(kv_heads=2, bos_id=7)


def fields(**changes: Any) -> dict[str, Any]:
    """Fields of a configuration that says neither, with changes."""
    silent = {"num_key_value_heads", "bos_token_id"} - set(changes)
    config = {k: v for k, v in tiny_config(**changes).items() if k not in silent}
    return decoder_fields(config, decoder_keys("toy"), DEFAULTS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (2, 7)),
        ({"num_key_value_heads": None, "bos_token_id": None}, (4, None)),
        ({"num_key_value_heads": 1, "bos_token_id": 0}, (1, 0)),
    ],
)
def test_an_absent_key_has_the_default_of_the_family(
    changes: dict[str, Any], expected: tuple[int, int | None]
) -> None:
    found = fields(**changes)
    assert (found["kv_heads"], found["bos_id"]) == expected


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("num_hidden_layers", 10**9, "num_hidden_layers=1000000000 must be an integer of at most"),
        ("model_type", ["llama"], r"model_type=\['llama'\] is not supported"),
        ("layer_types", [{}, {}], "layer_types has {} for block 0"),
    ],
)
def test_absurd_values_are_refused_at_once(key: str, value: object, said: str) -> None:
    config = tiny_config(**{key: value})
    with pytest.raises((FormatError, UnsupportedModelError), match=said):
        declared(config)
