"""Settings that decoders share, in the words of Hugging Face."""

from __future__ import annotations

from typing import Any

from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.rope import Factors, rope_scaling
from lrc.errors import FormatError, UnsupportedModelError

Config = dict[str, Any]
RMS_EPS, LAYER_NORM_EPS = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
_SLIDING, _FULL = "sliding_attention", "full_attention"


def shapes_of(meta: Metadata) -> Config:
    """What every decoder has: sizes, and whether the head is tied.

    Raises
    ------
    FormatError
        A size is missing, or they do not fit together.
    """
    heads = meta.count("attention.head_count")
    kv_heads = meta.count("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise FormatError(
            f"{heads} heads and {kv_heads} key heads do not fit together in the GGUF file"
        )
    return {
        "vocab_size": meta.vocabulary,
        "hidden_size": meta.count("embedding_length"),
        "intermediate_size": meta.count("feed_forward_length"),
        "num_hidden_layers": meta.count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": meta.count("context_length"),
        "tie_word_embeddings": meta.tied,
    }


def head_size(meta: Metadata) -> int:
    """Features of a head, of keys and of values alike.

    Raises
    ------
    UnsupportedModelError
        Values have another size.
    """
    hidden, heads = meta.count("embedding_length"), meta.count("attention.head_count")
    size = meta.count("attention.key_length", hidden // heads)
    _same(meta, "attention.value_length", size)
    return size


def _same(meta: Metadata, key: str, size: int) -> None:
    if meta.count(key, size) != size:
        raise UnsupportedModelError(
            f"{meta.architecture}.{key} is {meta.get(key)}, not the head size {size}"
        )


def rotated(meta: Metadata, factors: Factors) -> Config:
    """Sizes and positions of a decoder whose heads are rotated as a whole."""
    size, theta = head_size(meta), meta.number("rope.freq_base", 10000.0)
    _same(meta, "rope.dimension_count", size)
    if size % 2:
        raise FormatError(f"head size {size} of the GGUF file does not fit rotary positions")
    return {
        **shapes_of(meta),
        "head_dim": size,
        "rope_theta": theta,
        "rope_scaling": rope_scaling(meta, factors, theta, size),
    }


def partly_rotated(meta: Metadata) -> Config:
    """As `rotated`, without scaling, of heads that follow from the width, rotated in part."""
    size = head_size(meta)
    if size * meta.count("attention.head_count") != meta.count("embedding_length"):
        raise UnsupportedModelError(
            f"the heads of the GGUF file, of size {size}, do not make up its width"
        )
    return {
        **shapes_of(meta),
        "partial_rotary_factor": rotated_size(meta) / size,
        "rope_theta": meta.number("rope.freq_base", 10000.0),
    }


def rotated_size(meta: Metadata) -> int:
    """Features of a head that are rotated."""
    return meta.count("rope.dimension_count", head_size(meta))


def partly_rotated_scaled(meta: Metadata, factors: Factors) -> Config:
    """As `partly_rotated`, with scaling."""
    config = partly_rotated(meta)
    scaling = rope_scaling(meta, factors, config["rope_theta"], rotated_size(meta))
    return {**config, "rope_scaling": scaling}


def whole_heads(meta: Metadata, factors: Factors) -> Config:
    """As `rotated`, of heads that follow from the width."""
    _same(meta, "rope.dimension_count", head_size(meta))
    config = partly_rotated_scaled(meta, factors)
    return {key: value for key, value in config.items() if key != "partial_rotary_factor"}


def windows(meta: Metadata, layers: int, every: int) -> Config:
    """Windows in all blocks but each ``every``-th, or those that the file has a pattern for.

    Raises
    ------
    UnsupportedModelError
        The pattern is neither a number nor one value for each block.
    """
    pattern = meta.get("attention.sliding_window_pattern")
    if pattern is None or type(pattern) is int:
        every = pattern or every
        windowed = [(i + 1) % every != 0 for i in range(layers)]
    elif isinstance(pattern, list) and len(pattern) == layers:
        windowed = [bool(value) for value in pattern]
    else:
        raise UnsupportedModelError(
            f"{meta.architecture}.attention.sliding_window_pattern is {pattern!r:.60} in the GGUF "
            f"file; expected one value for each of {layers} blocks"
        )
    return {
        "sliding_window": meta.count("attention.sliding_window"),
        "layer_types": [_SLIDING if window else _FULL for window in windowed],
    }
