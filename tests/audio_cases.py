"""Audio by formula, and the cases of golden features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "data" / "golden" / "audio"
RATE = 16000
#: Frames that golden files keep: one of so many, and the last one.
KEPT = 29


def chirp(seconds: float, low: float = 60.0, high: float = 7900.0) -> np.ndarray:
    """A tone whose frequency rises exponentially, (N,) float32."""
    t = np.arange(int(seconds * RATE)) / RATE
    growth = np.log(high / low) / seconds
    phase = 2 * np.pi * low * np.expm1(growth * t) / growth
    return (0.5 * np.sin(phase)).astype(np.float32)


def noise(seconds: float, seed: int, level: float = 0.1) -> np.ndarray:
    """White noise, (N,) float32."""
    count = int(seconds * RATE)
    return (level * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@dataclass(frozen=True)
class AudioCase:
    """Audio and the sizes of its features."""

    mels: int
    seconds: int
    audio: np.ndarray


CASES = {
    "chirp": AudioCase(80, 30, chirp(30.0)),
    "short": AudioCase(80, 30, np.concatenate([chirp(1.7), noise(1.0, 3)])),
    "long": AudioCase(80, 2, noise(3.3, 4)),
    "bands128": AudioCase(128, 5, chirp(4.9) + noise(4.9, 5, 0.001)),
    "silence": AudioCase(80, 1, np.zeros(500, np.float32)),
}


def kept(features: np.ndarray) -> np.ndarray:
    """The frames of (mels, frames) that golden files keep."""
    return np.concatenate([features[:, ::KEPT], features[:, -1:]], axis=1)
