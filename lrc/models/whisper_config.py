"""The configuration of Whisper: known values are taken, others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError
from lrc.models.activations import activation
from lrc.models.common_keys import COMMON_HARMLESS, COMMON_OFF
from lrc.models.config_reader import MOST_LAYERS, ConfigKeys, count, first_id

_TRAINING = "is for training"
_CLASSIFIER = "is of a classifier's head"
_ENCODER = "says the same of the encoder as the key that begins with it"
KEYS = ConfigKeys(
    family="whisper",
    used=frozenset(
        {
            "model_type", "vocab_size", "num_mel_bins", "d_model", "encoder_layers",
            "encoder_attention_heads", "encoder_ffn_dim", "decoder_layers",
            "decoder_attention_heads", "decoder_ffn_dim", "activation_function",
            "max_source_positions", "max_target_positions", "tie_word_embeddings", "bos_token_id",
        }
    ),
    off={k: v for k, v in COMMON_OFF.items() if k != "is_encoder_decoder"}
    | {
        "is_encoder_decoder": (None, True),
    },
    harmless=COMMON_HARMLESS
    | dict.fromkeys(
        (
            "encoder_layerdrop", "decoder_layerdrop", "activation_dropout", "apply_spec_augment",
            "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob",
            "mask_feature_length", "mask_feature_min_masks",
        ),
        _TRAINING,
    )
    | dict.fromkeys(("classifier_proj_size", "use_weighted_layer_sum"), _CLASSIFIER)
    | dict.fromkeys(
        ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"),
        _ENCODER,
    )
    | {
        "scale_embedding": "is applied to nothing in this family",
        "median_filter_width": "is for the times of words, which are not computed",
        "forced_decoder_ids": "is read where speech is transcribed",
    },
)  # fmt: skip


@dataclass(frozen=True)
class Half:
    """Sizes of the encoder's blocks, or of the decoder's."""

    layers: int
    heads: int
    intermediate: int


@dataclass(frozen=True)
class WhisperConfig:
    """Shapes of a Whisper model.

    ``sources``: positions of a window of audio, two frames of features each. ``max_positions``:
    most tokens of a text. ``activation``: of feed-forward parts, a kind of `lrc.nn.layers`.
    """

    hidden: int
    vocab: int
    mels: int
    sources: int
    max_positions: int
    encoder: Half
    decoder: Half
    activation: str
    tied: bool
    bos_id: int | None

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Read the fields of a Hugging Face ``config.json``.

        Raises
        ------
        FormatError
            When a field is not what its name says.
        UnsupportedModelError
            When a field asks for something that is not computed here.
        """
        KEYS.check(config)
        hidden = count(config, "d_model", 384)
        tied = config.get("tie_word_embeddings", True)
        if not isinstance(tied, bool):
            raise FormatError(f"config.json: tie_word_embeddings={tied!r} must be true or false")
        return cls(
            hidden=hidden,
            vocab=count(config, "vocab_size", 51865),
            mels=count(config, "num_mel_bins", 80),
            sources=count(config, "max_source_positions", 1500),
            max_positions=count(config, "max_target_positions", 448),
            encoder=_half(config, "encoder", hidden),
            decoder=_half(config, "decoder", hidden),
            activation=activation(config, "activation_function", "gelu"),
            tied=tied,
            bos_id=first_id(config.get("bos_token_id", 50256)),
        )


def _half(config: Mapping[str, Any], name: str, hidden: int) -> Half:
    heads = count(config, f"{name}_attention_heads", 6)
    if hidden % heads:
        raise FormatError(
            f"config.json: d_model={hidden} must be a multiple of {name}_attention_heads={heads}"
        )
    layers = count(config, f"{name}_layers", 4, most=MOST_LAYERS)
    return Half(layers, heads, count(config, f"{name}_ffn_dim", 1536))
