"""Families as llama.cpp has them: the settings of a file, and what is done to weights in it.

The other direction of `lrc.convert.gguf.architectures`. Settings come from the configuration as the
family read it, so that what a file leaves out is what the family takes for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.convert.gguf.rope import FACTORS
from lrc.errors import UnsupportedModelError
from lrc.models.base import Model
from lrc.models.decoder_config import DecoderConfig
from lrc.nn.rope_scaling import Interpolation, Llama3, Yarn, plain_frequencies, yarn_attention

Settings = dict[str, Any]
#: Blocks of the largest Gemma models, whose queries are scaled by the width of the stream.
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}


@dataclass(frozen=True)
class Written:
    """How a family is written.

    Attributes
    ----------
    architecture
        Name in ``general.architecture``.
    settings
        Of that architecture, from the configuration.
    pairs
        Whether rows of queries and keys lie in the order of rotary pairs.
    norms_around_one
        Whether 1 is added to the weights of norms.
    """

    architecture: str
    settings: Callable[[Any], Settings]
    pairs: bool = False
    norms_around_one: bool = False


def _decoder(config: DecoderConfig) -> Settings:
    """What every decoder with RMS norms has; a window that all blocks have bounds the context."""
    windows = set(config.windows)
    context = config.max_positions
    if windows != {0}:
        if len(windows) > 1:
            raise UnsupportedModelError("windows in some blocks alone are not written to GGUF here")
        context = min(context, *windows)
    return {"context_length": context, **_sizes(config), **_rope(config)}


def _sizes(config: DecoderConfig) -> Settings:
    return {
        "vocab_size": config.vocab,
        "embedding_length": config.hidden,
        "block_count": config.layers,
        "feed_forward_length": config.intermediate,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.eps),
    }


def _rope(config: DecoderConfig) -> Settings:
    """Rotary positions; divisors of frequencies are a tensor, see `factors_of`.

    Raises
    ------
    UnsupportedModelError
        They are scaled in another way.
    """
    rope = config.rope
    assert rope is not None
    found: Settings = {"rope.freq_base": float(rope.theta), "rope.dimension_count": rope.head_dim}
    scaling = rope.scaling
    if isinstance(scaling, Interpolation):
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
    elif isinstance(scaling, Yarn):
        if not math.isclose(scaling.attention_factor, yarn_attention(scaling.factor), rel_tol=1e-6):
            raise UnsupportedModelError("yarn with an attention factor is not written to GGUF here")
        if not scaling.truncate:
            raise UnsupportedModelError("yarn without truncate is not written to GGUF here")
        found |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": float(scaling.factor),
            "rope.scaling.original_context_length": scaling.original_max_positions,
        }
        for key, value, usual in (
            ("yarn_beta_fast", scaling.beta_fast, 32.0),
            ("yarn_beta_slow", scaling.beta_slow, 1.0),
        ):
            if value != usual:
                found[f"rope.scaling.{key}"] = float(value)
    elif scaling.kind not in ("default", "llama3"):
        raise UnsupportedModelError(f"rope_type {scaling.kind!r} is not written to GGUF here")
    return found


def factors_of(config: DecoderConfig) -> dict[str, NDArray[np.float32]]:
    """Tensors of divisors of the rotary frequencies, by GGUF name."""
    rope = config.rope
    if rope is None or not isinstance(rope.scaling, Llama3):
        return {}
    scaled = rope.scaling.frequencies(rope.theta, rope.head_dim)
    return {FACTORS[0]: (plain_frequencies(rope.theta, rope.head_dim) / scaled).astype(np.float32)}


def _gemma(config: DecoderConfig) -> Settings:
    return {"context_length": config.max_positions, **_sizes(config), **_rope(config)}


def _gemma2(config: Any) -> Settings:
    _check_windows(config, every=2)
    _check_scale(config, "gemma2")
    return {
        **_gemma(config),
        "attention.sliding_window": max(config.windows),
        "attn_logit_softcapping": float(config.cap),
        "final_logit_softcapping": float(config.final_cap),
    }


def _gemma3(config: Any) -> Settings:
    _check_windows(config, every=6)
    _check_scale(config, "gemma3")
    if config.cap or config.local.scaling.kind != "default":
        raise UnsupportedModelError("soft caps of attention are not written to GGUF for gemma3")
    caps = {"final_logit_softcapping": float(config.final_cap)} if config.final_cap else {}
    return {
        **_gemma(config),
        "attention.sliding_window": max(config.windows),
        "rope.freq_base_swa": float(config.local.theta),
        **caps,
    }


def _check_windows(config: DecoderConfig, every: int) -> None:
    """llama.cpp knows by the architecture which blocks have a window."""
    width = max(config.windows)
    usual = tuple(0 if (i + 1) % every == 0 else width for i in range(config.layers))
    if config.windows != usual or not width:
        raise UnsupportedModelError(
            f"blocks with windows are {config.windows}, and llama.cpp takes {usual} for them"
        )


def _check_scale(config: DecoderConfig, architecture: str) -> None:
    """What queries are scaled by follows from the sizes there."""
    wide = config.layers == _SCALED_BY_WIDTH[architecture]
    size = config.hidden // config.heads if wide else config.head_dim
    if config.scale is None or not math.isclose(config.scale, size**-0.5, rel_tol=1e-6):
        raise UnsupportedModelError(
            f"query_pre_attn_scalar is not {size}, which llama.cpp takes for {architecture}"
        )


_LLAMA = Written("llama", _decoder, pairs=True)

#: Model type to how it is written.
WRITTEN: dict[str, Written] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Written("qwen2", _decoder),
    "qwen3": Written("qwen3", _decoder),
    "gemma": Written("gemma", _gemma, norms_around_one=True),
    "gemma2": Written("gemma2", _gemma2, norms_around_one=True),
    "gemma3_text": Written("gemma3", _gemma3, norms_around_one=True),
}


@dataclass(frozen=True)
class GgufModel:
    """A model under the names that a GGUF file has for its tensors.

    Attributes
    ----------
    written
        The rules of its family.
    settings
        Under their whole keys.
    names
        GGUF name of each tensor that the model reads.
    factors
        Tensors that follow from the configuration.
    """

    written: Written
    config: DecoderConfig
    settings: Settings
    names: Mapping[str, str]
    factors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, gguf: Any) -> GgufModel:
        """The rules for a model, with the package ``gguf``.

        Raises
        ------
        UnsupportedModelError
            There are none for its family, or the configuration asks for more than they know.
        """
        kind = str(model.source.config.get("model_type"))
        row = WRITTEN.get(kind)
        if row is None:
            raise UnsupportedModelError(
                f"models of type {kind} are not written to GGUF here; known are "
                f"{', '.join(WRITTEN)}"
            )
        config: DecoderConfig = getattr(model, "config")  # noqa: B009 - of decoders alone
        settings = {f"{row.architecture}.{k}": v for k, v in row.settings(config).items()}
        number = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[row.architecture]
        table = gguf.get_tensor_name_map(number, config.layers)
        names = {}
        for name in model.tensors.read:
            found = table.get_name(name, (".weight", ".bias"))
            if found is None:
                raise UnsupportedModelError(f"the package gguf has no name for the tensor {name}")
            names[name] = found
        return cls(row, config, settings, names, factors_of(config))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the file says otherwise than the configuration."""
        context = self.settings[f"{self.written.architecture}.context_length"]
        if context == self.config.max_positions:
            return ()
        return (
            f"blocks see {context} tokens, for which llama.cpp has no setting in this "
            f"architecture: the file's context ends there, instead of {self.config.max_positions}",
        )

    def order(self, name: str) -> NDArray[np.intp] | None:
        """Rows of the tensor ``name`` in the order of the file; None where they stay."""
        if not self.written.pairs:
            return None
        heads = {"attn_q": self.config.heads, "attn_k": self.config.kv_heads}
        own = heads.get(self.names[name].split(".")[-2])
        return None if own is None else rotary_pairs(own, self.config.head_dim)

    def plain(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A norm or a bias as the file has it."""
        if self.written.norms_around_one and name.endswith("norm.weight"):
            return values + np.float32(1)
        order = self.order(name)
        return values if order is None else values[order]


def rotary_pairs(heads: int, head_dim: int) -> NDArray[np.intp]:
    """Places of rows whose rotary pairs come to lie side by side.

    Examples
    --------
    >>> rotary_pairs(2, 4).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return np.arange(heads * head_dim).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)
