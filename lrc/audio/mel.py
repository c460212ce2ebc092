"""Log-mel features as Whisper's (Radford et al., 2022, section 2.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lrc.audio.resample import RATE

#: Samples of a Fourier transform, and from one to the next: 25 ms and 10 ms.
FFT, HOP = 400, 160
#: Frames a second.
FRAME_RATE = RATE // HOP
#: Decades below the loudest value that are kept, and the least power.
_DECADES, _LEAST = 8.0, 1e-10

#: Slaney's mel scale: linear up to 1000 Hz, 15 mels, and above with 27 mels for a factor 6.4.
_LINEAR, _KNEE, _STEP = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0


@dataclass(frozen=True)
class FrontEnd:
    """Sizes of a model's features.

    Attributes
    ----------
    mels : int
        Bands of a frame.
    seconds : int
        Length of a window; shorter audio is padded with silence.
    """

    mels: int
    seconds: int

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return self.seconds * RATE

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return self.seconds * FRAME_RATE


def audio_windows(samples: NDArray[np.float32], front: FrontEnd) -> list[NDArray[np.float32]]:
    """Samples (N,) cut into consecutive windows; the last one may be shorter."""
    return [samples[at : at + front.samples] for at in range(0, len(samples), front.samples)]


def log_mel(samples: NDArray[np.float32], front: FrontEnd) -> NDArray[np.float32]:
    """Features of one window of audio.

    Power of 25 ms under a Hann window every 10 ms, gathered in bands of Slaney's mel scale, its
    decimal logarithm cut 8 below the loudest value, and (x + 4) / 4 of that.

    Parameters
    ----------
    samples : (N,) float32
        At `RATE` samples a second; silence follows them, and what is beyond the window is
        left out.
    front : FrontEnd

    Returns
    -------
    (mels, frames) float32
    """
    padded = np.zeros(front.samples)
    padded[: len(samples)] = samples[: front.samples]
    mirrored = np.pad(padded, FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, FFT)[::HOP][: front.frames]
    spectrum = np.fft.rfft(frames * _hann(), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    bands = np.log10(np.maximum(power @ mel_filters(front.mels).T, _LEAST))
    np.maximum(bands, bands.max() - _DECADES, out=bands)
    return np.ascontiguousarray(((bands + 4.0) / 4.0).T, np.float32)


@cache
def mel_filters(mels: int) -> NDArray[np.float64]:
    """Triangular filters (mels, FFT // 2 + 1) from 0 to half of `RATE` (Slaney, 1998).

    Each rises from the centre of the one below to its own, falls to that of the one above, and
    has an area of 1 Hz.
    """
    top = _mel_of(RATE / 2)
    corners = _hertz_of(np.linspace(0.0, top, mels + 2))
    low, centre, high = (corners[i : i + mels, None] for i in range(3))
    hertz = np.linspace(0.0, RATE / 2, FFT // 2 + 1)
    rising, falling = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    filters *= 2.0 / (high - low)
    filters.flags.writeable = False
    return filters


def _mel_of(hertz: float) -> float:
    """Mels of a frequency above the knee."""
    return _KNEE / _LINEAR + math.log(hertz / _KNEE) / _STEP


def _hertz_of(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _KNEE / _LINEAR
    above = _KNEE * np.exp((np.maximum(mels, knee) - knee) * _STEP)
    return np.where(mels < knee, mels * _LINEAR, above)


@cache
def _hann() -> NDArray[np.float64]:
    """Hann's window (FFT,), periodic."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT) / FFT)
    window.flags.writeable = False
    return window
