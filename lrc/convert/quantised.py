"""Models that other programs have quantised to packed integers, decoded: GPTQ, AWQ and others.

Of a layer with n inputs, m outputs, b bits and groups of inputs; a weight is scale (code - zero):

================== ================================== ==========================================
format             codes                              zero points
================== ================================== ==========================================
gptq               qweight (n b / 32, m), down the    qzeros (groups, m b / 32), less 1 unless
                   columns                            ``checkpoint_format`` is "gptq_v2"
awq, version gemm  qweight (n, m / 8), of 4 bits, in  qzeros (groups, m / 8), in that order
                   words the outputs 0 2 4 6 1 3 5 7
compressed-tensors weight_packed (m, ceil(n b / 32))  weight_zero_point (ceil(m b / 32), groups),
                                                      or 2^b / 2
================== ================================== ==========================================

Scales are ``scales`` (groups, m), or ``weight_scale`` (m, groups). ``g_idx``, where there is one,
has the group of each input. Source: the formats' loaders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_directory, check_output, json_bytes
from lrc.convert.hf import to_float16, with_dtype
from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.sharded import write_weights
from lrc.formats.safetensors.writing import TensorSpec
from lrc.formats.side_files import copy_side_files
from lrc_kernels.backend import get_kernels

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Layer = Callable[[str], NDArray[Any] | None]
#: Outputs of a word of AWQ, by place in it.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_AWQ_BITS = 4


@dataclass(frozen=True)
class _Method:
    """How a method's layers are found and decoded; ``codes`` ends the name of what holds them."""

    codes: str
    others: tuple[str, ...]
    decode: Callable[[Layer, dict[str, Any]], F32]
    shape: Callable[[Layer, dict[str, Any]], tuple[int, int]]


def import_quantised(folder: Path | str, out: Path | str) -> Path:
    """Write a quantised model as a dense directory of float16.

    Parameters
    ----------
    folder
        A directory whose ``config.json`` has a ``quantization_config`` of one of the methods.
    out
        Made by this call; must not exist.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    UnsupportedModelError
        The weights are not quantised, or by another method or variant.
    FormatError
        The directory cannot be read, or a layer's tensors do not fit each other.
    OutputError
        ``out`` exists or cannot be written.
    """
    out = Path(out)
    check_output(out)
    source = Checkpoint.open(folder, quantised=True)
    settings = source.config.get("quantization_config")
    method = _method(source.path, settings)
    layers = [
        name.removesuffix("." + method.codes)
        for name in source.names()
        if name.endswith("." + method.codes)
    ]
    if not layers:
        raise FormatError(f"{source.path} has no tensor that ends in {method.codes}")
    parts = {f"{layer}.{end}" for layer in layers for end in (method.codes, *method.others)}

    def asked(of: Callable[[Layer, dict[str, Any]], Any], layer: str) -> Any:
        try:
            return of(lambda end: _stored(source, f"{layer}.{end}"), dict(settings or {}))
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise FormatError(
                f"{source.path}: the tensors of {layer} do not fit each other: {error}"
            ) from error

    def dense(name: str) -> NDArray[np.float16]:
        known = source.has(name)
        layer = name.removesuffix(".weight")
        return to_float16(source.dense(name) if known else asked(method.decode, layer), name)

    rest = [name for name in source.names() if name not in parts]
    shapes = {name: source.shape(name) for name in rest}
    shapes |= {f"{layer}.weight": asked(method.shape, layer) for layer in layers}
    specs = {name: TensorSpec("F16", shapes[name]) for name in sorted(shapes)}
    config = {k: v for k, v in source.config.items() if k != "quantization_config"}
    with atomic_directory(out) as work:
        copy_side_files(source.path, source.other_files(), work)
        (work / "config.json").write_bytes(json_bytes(with_dtype(config)))
        write_weights(work, specs, dense)
    return out


def _stored(source: Checkpoint, name: str) -> NDArray[Any] | None:
    """A tensor as it is stored, floats as float32; None where there is none."""
    if not source.has(name):
        return None
    kind = source.shards[name].info(name).dtype
    return source.dense(name) if kind in ("F16", "BF16", "F32") else source.shards[name].read(name)


def _method(folder: Path, settings: Any) -> _Method:
    name = settings.get("quant_method") if isinstance(settings, dict) else None
    version = str(settings.get("version", "gemm")).lower() if name == "awq" else ""
    form = settings.get("format") if name == "compressed-tensors" else None
    if name == "gptq":
        return _Method("qweight", ("qzeros", "scales", "g_idx"), _gptq, _gptq_shape)
    if name == "awq" and version == "gemm" and settings.get("bits", _AWQ_BITS) == _AWQ_BITS:
        return _Method("qweight", ("qzeros", "scales"), _awq, _awq_shape)
    if name == "compressed-tensors" and form == "pack-quantized":
        others = ("weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx")
        return _Method("weight_packed", others, _compressed_tensors, _told_shape)
    told = name if name not in ("awq", "compressed-tensors") else f"{name} {version or form}"
    raise UnsupportedModelError(
        f"the weights of {folder} are {'not quantised' if name is None else f'of method {told}'}; "
        "gptq, awq (gemm, 4 bits) and compressed-tensors (pack-quantized) are known"
    )


def unpacked_words(words: I32, count: int, bits: int) -> NDArray[np.uint8]:
    """Undo :func:`lrc.convert.integers.packed_words`: codes u8 (rows, count)."""
    row = np.ascontiguousarray(words, "<i4").view(np.uint8)
    return get_kernels().unpack_bits(row[:, : -(-count * bits // 8)], bits, count)


def _gptq(part: Layer, settings: dict[str, Any]) -> F32:
    bits = int(settings["bits"])
    words, scales, zeros = _given(part("qweight")), _given(part("scales")), part("qzeros")
    n, m = words.shape[0] * 32 // bits, words.shape[1]
    codes = unpacked_words(words.T, n, bits)
    least = 0 if settings.get("checkpoint_format") == "gptq_v2" else 1
    if zeros is None:
        zero = np.full(scales.shape, 1 << bits - 1, np.float32)
    else:
        zero = unpacked_words(zeros, m, bits).astype(np.float32) + np.float32(least)
    return _weights(codes, scales.T, zero.T, part("g_idx"))


def _gptq_shape(part: Layer, settings: dict[str, Any]) -> tuple[int, int]:
    words = _given(part("qweight"))
    return words.shape[1], words.shape[0] * 32 // int(settings["bits"])


def _awq(part: Layer, settings: dict[str, Any]) -> F32:
    del settings
    words, scales = _given(part("qweight")), _given(part("scales"))
    zeros = part("qzeros")
    m = words.shape[1] * 8
    half = np.full(scales.shape, 1 << _AWQ_BITS - 1, np.uint8)
    zero = half if zeros is None else _awq_order(unpacked_words(zeros, m, _AWQ_BITS))
    codes = np.ascontiguousarray(_awq_order(unpacked_words(words, m, _AWQ_BITS)).T)
    return _weights(codes, scales.T, zero.T.astype(np.float32), None)


def _awq_shape(part: Layer, settings: dict[str, Any]) -> tuple[int, int]:
    del settings
    words = _given(part("qweight"))
    return words.shape[1] * 8, words.shape[0]


def _awq_order(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Columns in their own order, of those that lie in words as AWQ has them."""
    found = np.empty_like(codes)
    for place, column in enumerate(_AWQ_ORDER):
        found[:, column::8] = codes[:, place::8]
    return found


def _compressed_tensors(part: Layer, settings: dict[str, Any]) -> F32:
    words, scales = _given(part("weight_packed")), _given(part("weight_scale"))
    m, n = _told_shape(part, settings)
    bits = words.shape[1] * 32 // n
    zeros = part("weight_zero_point")
    if zeros is None:
        zero = np.full(scales.shape, 1 << bits - 1, np.float32)
    else:
        zero = unpacked_words(zeros.T, m, bits).T.astype(np.float32)
    return _weights(unpacked_words(words, n, bits), scales, zero, part("weight_g_idx"))


def _told_shape(part: Layer, settings: dict[str, Any]) -> tuple[int, int]:
    del settings
    m, n = (int(side) for side in _given(part("weight_shape")))
    return m, n


def _given(values: NDArray[Any] | None) -> NDArray[Any]:
    if values is None:
        raise ValueError("one is missing")
    return values


def _weights(codes: NDArray[np.uint8], scales: F32, zeros: F32, places: NDArray[Any] | None) -> F32:
    """Weights (m, n) of codes (m, n), scales and zero points (m, groups)."""
    n = codes.shape[1]
    if places is None:
        places = np.arange(n) // -(-n // scales.shape[1])
    values: F32 = scales[:, places] * (codes.astype(np.float32) - zeros[:, places])
    return values
