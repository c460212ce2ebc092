"""One text on its way through a model: a cache, and which tokens it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrc.run.sampler import Logits

if TYPE_CHECKING:
    from lrc.run.generate import Decoder


class Stream:
    """A cache, and which tokens it has: another text may go on from those that it shares.

    Parameters
    ----------
    decoder : Decoder
        Of this stream alone.

    Attributes
    ----------
    ids : list of int
        Tokens in the cache.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.ids: list[int] = []

    def common(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt need not be read again; the last one is always read."""
        pairs = zip(self.ids, prompt[:-1], strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        length = min(len(self.ids), len(prompt) - 1) if same is None else same
        cache = self.decoder.cache
        # An error may have left tokens in the cache that are not known here.
        return length if cache.length == len(self.ids) and cache.can_rewind(length) else 0

    def begin(self, prompt: Sequence[int], *, reuse: bool = True) -> int:
        """Forget all but what is common with a prompt; return how many tokens that are."""
        length = self.common(prompt) if reuse else 0
        self.decoder.cache.rewind(length)
        del self.ids[length:]
        return length

    def read(self, ids: Sequence[int]) -> Logits:
        """Logits (vocab,) after some more tokens; valid until the next call."""
        logits = self.decoder.advance(np.asarray(ids))
        self.ids += ids
        return logits

    def read_each(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits (T, vocab) after each of some more tokens, which are read together."""
        logits = self.decoder.advance_each(np.asarray(ids))
        self.ids += ids
        return logits

    def take_back(self, count: int) -> None:
        """Forget the last ``count`` tokens."""
        length = len(self.ids) - count
        self.decoder.cache.rewind(length)
        del self.ids[length:]

    def outputs(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Residual streams (T, hidden) of some more tokens."""
        rows = self.decoder.outputs(np.asarray(ids))
        self.ids += ids
        return rows
