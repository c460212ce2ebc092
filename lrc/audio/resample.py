"""Audio files at the rate that speech models hear."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrc.audio.wav import read_wav

#: Samples a second.
RATE = 16_000


def read_audio(path: Path, rate: int = RATE) -> NDArray[np.float32]:
    """Samples (N,) float32 of a WAV file, one channel at ``rate`` samples a second.

    Raises
    ------
    FormatError
        As `read_wav`.
    """
    return resampled(*read_wav(path), rate)


def resampled(samples: NDArray[np.float32], given: int, wanted: int) -> NDArray[np.float32]:
    """Change the rate of samples (N,), with a low-pass filter of finite length.

    A polyphase filter with a Kaiser window (``scipy.signal.resample_poly``): N samples become
    ceil(N wanted / given).
    """
    if given == wanted:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(given, wanted)
    made: NDArray[np.float32] = resample_poly(samples, wanted // common, given // common)
    return made.astype(np.float32, copy=False)
