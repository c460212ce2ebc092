"""Keys of ``config.json`` about experts: how many, how many a token, and which blocks have any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrc.errors import FormatError
from lrc.models.config_reader import MOST_EXPERTS, count

#: How many experts compute a token.
EACH = "num_experts_per_tok"
#: Which blocks have experts.
STEP, ONLY_DENSE = "decoder_sparse_step", "mlp_only_layers"


def expert_counts(
    config: Mapping[str, Any], names: Sequence[str], default: int, top: int
) -> tuple[int, int]:
    """How many experts a block has, and how many compute a token.

    ``names`` are all that transformers has for the first key; ``default`` and ``top`` are what it
    takes where keys are absent.

    Raises
    ------
    FormatError
        When they are no numbers, or do not fit each other.
    """
    found = {
        name: count(config, name, most=MOST_EXPERTS)
        for name in names
        if config.get(name) is not None
    }
    if len(set(found.values())) > 1:
        said = " and ".join(f"{name}={value}" for name, value in found.items())
        raise FormatError(f"config.json: {said} must be the same")
    experts = next(iter(found.values()), default)
    each = count(config, EACH, top)
    if each > experts:
        raise FormatError(f"config.json: {EACH}={each} exceeds the number of experts, {experts}")
    return experts, each


def dense_blocks(config: Mapping[str, Any], layers: int) -> frozenset[int]:
    """Blocks without experts: those named, and all but each ``decoder_sparse_step``-th.

    Raises
    ------
    FormatError
        When the named ones are no list of numbers.
    """
    step = count(config, STEP, 1)
    named = config.get(ONLY_DENSE) or []
    if not isinstance(named, list) or not all(type(block) is int for block in named):
        raise FormatError(f"config.json: {ONLY_DENSE}={named!r} must be a list of integers")
    return frozenset(i for i in range(layers) if i in named or (i + 1) % step)
