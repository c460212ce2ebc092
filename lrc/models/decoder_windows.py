"""Which blocks of a decoder see the last few tokens alone, and how many those are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models.config_reader import short

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Windows:
    """The rule of a family, with the numbers of a configuration.

    Attributes
    ----------
    width : int
        Tokens that one sees where there is a window, itself included; 0 where there is none.
    first : int
        The window is in this block and all after it,
    stop : int, optional
        up to this one, which has none.
    every : int
        But not in each block of this number, the first one of them being ``every - 1``; 0 is none.
    by_layer : bool
        Whether ``layer_types`` may say otherwise, block by block; else it may only agree.
    """

    width: int = 0
    first: int = 0
    stop: int | None = None
    every: int = 0
    by_layer: bool = False

    def of(self, config: Mapping[str, Any], layers: int) -> tuple[int, ...]:
        """Tokens that one sees in each of so many blocks, itself included; 0 is all.

        Raises
        ------
        FormatError
            When ``layer_types`` is not a list of as many.
        UnsupportedModelError
            When it has what is not computed here.
        """
        implied = [SLIDING if self._slides(i) else FULL for i in range(layers)]
        given = config.get("layer_types")
        kinds = implied if given is None else given
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise FormatError(
                f"config.json: layer_types must be a list of num_hidden_layers={layers} names"
            )
        free = {FULL, SLIDING} if self.by_layer and self.width else set()
        for i, kind in enumerate(kinds):
            known = free or {implied[i]}
            if not isinstance(kind, str) or kind not in known:
                raise UnsupportedModelError(
                    f"config.json: layer_types has {short(kind)} for block {i}; only "
                    f"{' or '.join(sorted(known))} is supported there"
                )
        return tuple(self.width if kind == SLIDING else 0 for kind in kinds)

    def _slides(self, block: int) -> bool:
        between = not self.every or (block + 1) % self.every != 0
        within = block >= self.first and (self.stop is None or block < self.stop)
        return self.width > 0 and within and between


NO_WINDOWS = Windows()
