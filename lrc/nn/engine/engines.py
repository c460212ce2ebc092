"""The engines of one model: they share what they read, and nothing that they write."""

from __future__ import annotations

from collections.abc import Sequence

from lrc.nn.engine.batch import BatchEngine
from lrc.nn.engine.decode import DecodeEngine
from lrc.nn.engine.decode_program import DecodeProgram
from lrc.nn.engine.program import Program, outside
from lrc.nn.engine.prompt import PromptEngine
from lrc.nn.engine.prompt_program import prompt_program_for
from lrc.nn.engine.team import Team
from lrc.nn.ops import Op


class Engines:
    """Makes engines, as many as sequences are decoded at the same time.

    Parameters
    ----------
    hidden : int
        Width of the residual stream.
    body : sequence of Op
        Of all blocks, the first one's first.
    tail : sequence of Op
        From the residual stream to `LOGITS`.
    """

    def __init__(self, hidden: int, body: Sequence[Op], tail: Sequence[Op]) -> None:
        self._outside = outside(body, tail)
        self._decode = self._prompt = None
        if not self._outside:
            program = Program(hidden, body, tail)
            self._decode, self._prompt = DecodeProgram(program), prompt_program_for(program)

    @property
    def runs_on(self) -> str:
        """What computes this model, in words."""
        if self._decode is None:
            return f"NumPy blocks ({self._outside})"
        return "compiled engine" + ("" if self._prompt else ", prompts in NumPy blocks")

    def decode(self, team: Team, *, fine: bool = False) -> DecodeEngine | None:
        """An engine that decodes single tokens fast; None where this model has none.

        ``fine``: on 15 bits always, as several tokens are read; else on 8 where that will do.
        """
        if self._decode is None:
            return None
        return DecodeEngine(self._decode.on_15_bits() if fine else self._decode, team)

    def prompt(self, team: Team) -> PromptEngine | None:
        """An engine that works through many tokens fast; None where this model has none."""
        return None if self._prompt is None else PromptEngine(self._prompt, team)

    def batch(self, team: Team) -> BatchEngine | None:
        """An engine that advances several sequences at once; None where this model has none."""
        if self._prompt is None or self._prompt.source.states:
            return None
        return BatchEngine(self._prompt, team)
