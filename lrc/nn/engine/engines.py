"""The engines of one model: they share what they read, and nothing that they write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.nn.engine.decode import DecodeEngine
from lrc.nn.engine.decode_program import Block, Config, decode_program_for
from lrc.nn.engine.prompt import PromptEngine
from lrc.nn.engine.prompt_program import prompt_program_for
from lrc.nn.engine.team import Team
from lrc.nn.linear import Linear


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

    def decode(self, team: Team) -> DecodeEngine | None:
        """An engine that decodes single tokens fast; None where this model has none."""
        return None if self._decode is None else DecodeEngine(self._decode, team)

    def prompt(self, team: Team) -> PromptEngine | None:
        """An engine that works through many tokens fast; None where this model has none."""
        return None if self._prompt is None else PromptEngine(self._prompt, team)
