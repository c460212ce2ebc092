"""The configuration of state-space families: known values are taken, others refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lrc.errors import FormatError
from lrc.models.common_keys import COMMON_HARMLESS, COMMON_OFF
from lrc.models.config_reader import MOST_LAYERS, ConfigKeys, count, first_id, flag, number
from lrc.models.decoder_config import StackConfig

#: These models have no positions, and so no longest text: what a user may ask for is bounded by
#: memory alone. Windows of evaluation and calibration are as long as with other models.
MAX_POSITIONS = 1 << 20

_USED = (
    "model_type", "hidden_size", "num_hidden_layers", "state_size", "conv_kernel", "expand",
    "use_bias", "use_conv_bias", "layer_norm_epsilon", "vocab_size",
    "tie_word_embeddings", "bos_token_id",
)  # fmt: skip
_OFF: dict[str, tuple[object, ...]] = {
    "hidden_act": ("swish", "silu"),
    "rms_norm": (None, True),
    "ssm_cfg": (None, {}),
    "attn_layer_idx": (None, []),
    "attn_cfg": (None, {}),
    "d_intermediate": (None, 0),
}
_INITIAL = "is for the weights that training begins with"
_TWICE = "says once more what another key says"
_HARMLESS = {
    "residual_in_fp32": "the residual stream is float32 here anyway",
    "fused_add_norm": "says how the same result is computed",
    "use_mambapy": "says how the same result is computed",
    "use_associative_scan": "says how the same result is computed",
    "rescale_prenorm_residual": _INITIAL,
    "time_step_scale": _INITIAL,
    "time_step_min": _INITIAL,
    "time_step_max": _INITIAL,
    "time_step_floor": _INITIAL,
    "time_step_init_scheme": _INITIAL,
    "pad_vocab_size_multiple": "vocab_size is what it led to",
    "d_model": _TWICE,
    "d_inner": _TWICE,
    "n_layer": _TWICE,
}


def state_space_keys(
    family: str,
    used: Collection[str] = (),
    off: Mapping[str, tuple[object, ...]] | None = None,
    harmless: Mapping[str, str] | None = None,
) -> ConfigKeys:
    """All keys of a family, from those that it knows beside the common ones."""
    return ConfigKeys(
        family=family,
        used=frozenset((*_USED, *used)),
        off=COMMON_OFF | _OFF | dict(off or {}),
        harmless=COMMON_HARMLESS | _HARMLESS | dict(harmless or {}),
    )


@dataclass(frozen=True)
class StateSpaceConfig(StackConfig):
    """What state-space families share beside it.

    ``inner``: channels of the scan; ``states``: numbers that each of them carries along; ``taps``:
    tokens that a convolution sees; ``bias``: of the first and the last matrix of a block.
    """

    inner: int
    states: int
    taps: int
    bias: bool
    conv_bias: bool


def state_space_fields(
    config: Mapping[str, Any], keys: ConfigKeys, *, states: int, tied: bool
) -> dict[str, Any]:
    """Read the fields of `StateSpaceConfig`, and refuse every key that ``keys`` does not know.

    ``states`` and ``tied`` are what transformers takes where their keys are absent.

    Raises
    ------
    FormatError
        When a field is missing or is not what its name says.
    UnsupportedModelError
        When a field asks for something that is not computed here.
    """
    keys.check(config)
    given = {"use_conv_bias": True, "tie_word_embeddings": tied, "bos_token_id": 0, **config}
    hidden = count(config, "hidden_size")
    expand = number(config, "expand", 2.0)
    if not 1 <= expand * hidden < 2**53:
        raise FormatError(f"config.json: expand={expand:g} leaves no channel, or too many")
    inner = int(expand * hidden)
    return {
        "hidden": hidden,
        "inner": inner,
        "layers": count(config, "num_hidden_layers", most=MOST_LAYERS),
        "states": count(config, "state_size", states),
        "taps": count(config, "conv_kernel", 4),
        "vocab": count(config, "vocab_size"),
        "max_positions": MAX_POSITIONS,
        "eps": number(config, "layer_norm_epsilon", 1e-5),
        "bias": flag(config, "use_bias"),
        "conv_bias": flag(given, "use_conv_bias"),
        "tied": flag(given, "tie_word_embeddings"),
        "bos_id": first_id(given["bos_token_id"]),
    }
