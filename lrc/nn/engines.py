"""The engines of one model: they share what they read, and nothing that they write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.nn.crew import Crew
from lrc.nn.decode_program import Block, Config, decode_program_for
from lrc.nn.engine import DecodeEngine
from lrc.nn.linear import Linear
from lrc.nn.prompt_engine import PromptEngine
from lrc.nn.prompt_program import prompt_program_for


class Engines:
    """Makes engines, as many as sequences are decoded at the same time.

    Parameters
    ----------
    config : Config
    blocks : sequence of Block
    final_norm : (hidden,) float32
    head : Linear
        (vocab, hidden).
    """

    def __init__(
        self,
        config: Config,
        blocks: Sequence[Block],
        final_norm: NDArray[np.float32],
        head: Linear,
    ) -> None:
        self._decode = decode_program_for(config, blocks, final_norm, head)
        self._prompt = None if self._decode is None else prompt_program_for(config, blocks)

    def decode(self, crew: Crew) -> DecodeEngine | None:
        """An engine that decodes single tokens fast; None where this model has none."""
        return None if self._decode is None else DecodeEngine(self._decode, crew)

    def prompt(self, crew: Crew) -> PromptEngine | None:
        """An engine that works through many tokens fast; None where this model has none."""
        return None if self._prompt is None else PromptEngine(self._prompt, crew)
