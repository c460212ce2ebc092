"""Samples of a WAV file, mixed to one channel."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lrc.audio.wav_header import FLOAT, WavHeader, read_header
from lrc.base.lfs import refuse_pointer
from lrc.base.threads import chunks
from lrc.errors import FormatError

#: Moments whose samples are widened at a time.
_FRAMES = 1 << 16


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """Read a WAV file as one channel, the mean of those that it has.

    Parameters
    ----------
    path
        PCM of 8, 16, 24 or 32 bits, or float samples of 32 or 64.

    Returns
    -------
    samples : (N,) float32
        PCM is scaled to [-1, 1); float samples are as they are.
    rate : int
        Samples a second.

    Raises
    ------
    FormatError
        It cannot be read, is no WAV file or another kind of one, is damaged, or has samples that
        are not finite.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise FormatError(f"audio file {path} {what}; name a WAV file")
    refuse_pointer(path)
    try:
        with path.open("rb") as stream:
            header = read_header(stream, path.stat().st_size, path)
            samples = _mixed(stream, header)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    if not np.isfinite(samples).all():
        raise FormatError(f"{path} has samples that are not finite; record or convert it again")
    return samples, header.rate


def _mixed(stream: BinaryIO, header: WavHeader) -> NDArray[np.float32]:
    """The mean of all channels, (N,)."""
    out = np.empty(header.frames, np.float32)
    stream.seek(header.first)
    for part in chunks(header.frames, _FRAMES):
        raw = stream.read((part.stop - part.start) * header.frame_bytes)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            values = _decoded(raw, header).reshape(-1, header.channels)
            out[part] = values.mean(axis=1)
    return out


def _decoded(raw: bytes, header: WavHeader) -> NDArray[np.float64]:
    """Samples in the order of the file; integers have their full scale at 1."""
    if header.kind == FLOAT:
        return np.frombuffer(raw, f"<f{header.bits // 8}").astype(np.float64)
    if header.bits == 8:  # alone without a sign
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128.0) / 128.0
    if header.bits == 24:
        widened = np.zeros((len(raw) // 3, 4), np.uint8)
        widened[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return widened.reshape(-1).view("<i4").astype(np.float64) * 2.0**-31
    values = np.frombuffer(raw, f"<i{header.bits // 8}").astype(np.float64)
    return values * 2.0 ** (1 - header.bits)
