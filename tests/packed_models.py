"""Tiny Llama models whose matrices are random packed ones."""

from __future__ import annotations

from packed_cases import random_matrix
from random_weights import MemorySource
from tiny_llama import tiny_config, tiny_weights

from lrc.models import load_model

TABLES = ("model.embed_tokens.weight", "lm_head.weight")


class PackedSource(MemorySource):
    """Every matrix packed, with options for those of the blocks.

    ``table``: codebook, group size and, where there is one, rotation of the tables.
    """

    is_as_read = True

    def __init__(self, config, table, **options):
        super().__init__(config, tiny_weights(config, 9))
        self.table, self.options = table, options

    def linear(self, name):
        shape = self.weights[name].shape
        seed = sum(name.encode())
        if name in TABLES:
            if self.table is None:
                return self.weights[name]
            codebook, group, *more = self.table
            rotation = more[0] if more else "none"
            return random_matrix(
                shape, codebook, group_size=group, rotation=rotation, rank=0, seed=seed
            )
        return random_matrix(shape, seed=seed, **self.options)


def packed_model(changes=None, table=(("uniform", 8), 64), **options):
    """A model of `tiny_config` with ``changes``; ``options`` are those of `random_matrix`."""
    return load_model(PackedSource(tiny_config(**changes or {}), table, **options))
