"""What llama.cpp changes in weights when it writes them, undone.

Each function takes the Hugging Face name of a tensor, its values (float32, in the shape that the
file has) and the configuration, and returns what Hugging Face has under that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Config = Mapping[str, Any]

#: Matrices that GPT-2 keeps as (in, out).
GPT2_TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")


def as_stored(name: str, values: Values, config: Config) -> Values:
    """Nothing was changed."""
    return values


def rotary_rows(name: str, values: Values, config: Config) -> Values:
    """Rows of queries and keys, whose rotary pairs GGUF keeps side by side."""
    if ".q_proj." in name:
        return unpermute(values, config["num_attention_heads"])
    if ".k_proj." in name:
        return unpermute(values, config["num_key_value_heads"])
    return values


def unpermute(values: Values, heads: int) -> Values:
    """Undo GGUF's row order of q and k.

    GGUF keeps the two halves of each head's rotary pairs interleaved, Hugging Face one after
    the other.

    Parameters
    ----------
    values
        (heads * head_dim, ...) weight or bias.
    heads
        Number of heads of this matrix.

    Examples
    --------
    >>> unpermute(np.arange(8, dtype=np.float32), 2).astype(int).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows, rest = values.shape[0], values.shape[1:]
    pairs = values.reshape(heads, rows // heads // 2, 2, *rest)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def norms_around_zero(name: str, values: Values, config: Config) -> Values:
    """Weights of norms, to which GGUF adds the 1 that Gemma adds when it runs."""
    return values - np.float32(1) if name.endswith("norm.weight") else values


def transposed(name: str, values: Values, config: Config) -> Values:
    """Matrices that Hugging Face keeps as (in, out)."""
    return np.ascontiguousarray(values.T) if name.endswith(GPT2_TRANSPOSED) else values


def heads_apart(name: str, values: Values, config: Config) -> Values:
    """Rows of query, key and value: GGUF has all heads of each, Hugging Face all of each key head.

    Examples
    --------
    >>> rows = np.arange(6, dtype=np.float32)
    >>> heads_apart("attention.query_key_value.bias", rows, {"num_attention_heads": 2}).tolist()
    [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]
    """
    if ".query_key_value." not in name:
        return values
    heads = config["num_attention_heads"]
    key_heads = config.get("num_kv_heads", heads)
    by_head = values.reshape(heads + 2 * key_heads, -1, *values.shape[1:])
    parts = np.split(by_head, (heads, heads + key_heads))
    grouped = [part.reshape(key_heads, -1, *values.shape[1:]) for part in parts]
    return np.concatenate(grouped, axis=1).reshape(values.shape)


def decay(name: str, values: Values, config: Config) -> Values:
    """The decay of a state space, which GGUF has as -exp(A_log)."""
    return np.log(-values) if name.endswith(".A_log") else values
