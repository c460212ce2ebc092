"""OLMo 3: OLMo 2 whose blocks have a window, but each fourth one (OLMo Team, 2025).

Blocks that see all may have other rotary positions than those with a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.decoder_rope import Rotary, read_layer_ropes
from lrc.models.decoder_windows import FULL, SLIDING, Windows
from lrc.models.olmo2 import Olmo2Block, tensors
from lrc.nn.rope import Rope

KEYS = decoder_keys(
    "olmo3", used=("attention_bias", "sliding_window", *NO_ROTARY), spelled=NO_ROTARY
)
DEFAULTS = Defaults(eps=1e-5)
#: The theta beside the rotary settings is that of blocks that see all.
ROTARIES = {FULL: Rotary(500000.0), SLIDING: Rotary(500000.0, theta_key=None)}
#: Where the keys are absent.
WINDOW, EVERY = 4096, 4


@dataclass(frozen=True)
class Olmo3Config(DecoderConfig):
    """Shapes and constants of an OLMo 3 model.

    ``rope`` is that of blocks that see all, ``local`` that of those with a window.
    """

    local: Rope

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
        width = count({"sliding_window": WINDOW, **config}, "sliding_window")
        fields = decoder_fields(config, KEYS, DEFAULTS, Windows(width, every=EVERY, by_layer=True))
        ropes = read_layer_ropes(
            config, KEYS.family, fields["head_dim"], fields["max_positions"], ROTARIES
        )
        return cls(**fields | {"rope": ropes[FULL]}, local=ropes[SLIDING])


class Olmo3Block(Olmo2Block):
    """A block of OLMo 2 with rotary positions of its kind."""

    config: Olmo3Config

    @property
    def rope(self) -> Rope | None:
        """Another one where there is a window."""
        return self.config.local if self.config.windows[self.index] else self.config.rope


OLMO3 = DecoderFamily("olmo3", Olmo3Config.from_dict, tensors, Olmo3Block)
