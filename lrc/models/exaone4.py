"""EXAONE 4: norms after both parts of a block, and windows but in each fourth one (LG AI, 2025).

Queries and keys of each head are normalised. Where some blocks have a window, only those are
rotated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors, qk_norms
from lrc.models.decoder_windows import NO_WINDOWS, Windows
from lrc.models.olmo2 import AFTER, Olmo2Block
from lrc.models.tensors import Tensors
from lrc.nn.rope import Rope

KEYS = decoder_keys("exaone4", used=("sliding_window", "sliding_window_pattern"))
DEFAULTS = Defaults(kv_heads=32, bos_id=0, eps=1e-5)
#: Where the keys are absent; a window of null is none.
WINDOW, EVERY = 4096, 4


@dataclass(frozen=True)
class Exaone4Config(DecoderConfig):
    """Shapes and constants of such a model; ``hybrid``: whether a window is given."""

    hybrid: bool

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Read the fields of a Hugging Face ``config.json``.

        Raises
        ------
        FormatError
            When a field is missing or is not what its name says.
        UnsupportedModelError
            When a field asks for something that is not computed here.
        """
        windows = _windows(config)
        fields = decoder_fields(config, KEYS, DEFAULTS, windows)
        return cls(**fields, hybrid=windows is not NO_WINDOWS)


def _windows(config: Mapping[str, Any]) -> Windows:
    """None where ``sliding_window`` is null; the pattern counts where there are no layer types."""
    given = {"sliding_window": WINDOW, **config}
    if given["sliding_window"] is None:
        return NO_WINDOWS
    width = count(given, "sliding_window")
    if config.get("layer_types") is not None:
        return Windows(width, by_layer=True)
    return Windows(width, every=count(config, "sliding_window_pattern", EVERY))


class Exaone4Block(Olmo2Block):
    """A block of OLMo 2, rotated or not."""

    config: Exaone4Config

    @property
    def rope(self) -> Rope | None:
        """None in blocks that see all, where others have a window."""
        c = self.config
        return c.rope if c.windows[self.index] or not c.hybrid else None


def tensors(config: Exaone4Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, norms=dict.fromkeys(AFTER, config.hidden) | qk_norms(config))


EXAONE4 = DecoderFamily("exaone4", Exaone4Config.from_dict, tensors, Exaone4Block)
