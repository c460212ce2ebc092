"""``preprocessor_config.json``: what a model's features are, and that they are those made here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrc.audio.mel import FFT, HOP, FrontEnd, mel_filters
from lrc.audio.resample import RATE
from lrc.base.strict_json import read_object
from lrc.errors import FormatError, UnsupportedModelError
from lrc.models.config_reader import ConfigKeys, count

#: The file, and that of newer versions of transformers, which holds the same under a key.
FILE, PROCESSOR_FILE, PROCESSOR_KEY = (
    "preprocessor_config.json",
    "processor_config.json",
    "feature_extractor",
)
KEYS = ConfigKeys(
    family="whisper",
    used=frozenset({"feature_size", "chunk_length", "n_samples", "nb_max_frames", "mel_filters"}),
    off={
        "feature_extractor_type": ("WhisperFeatureExtractor",),
        "sampling_rate": (RATE,),
        "n_fft": (FFT,),
        "hop_length": (HOP,),
        "padding_value": (0.0,),
        "padding_side": ("right",),
        "dither": (0.0,),
        "do_normalize": (None, False),
    },
    harmless={
        "return_attention_mask": "says what is returned beside the features",
        "processor_class": "says where the file comes from",
        "transformers_version": "says where the file comes from",
    },
    file=FILE,
)
_BANDS = (80, 128)
#: Differences of filters that other programs computed in float32.
_FILTER_TOLERANCE = 1e-5


def read_front_end(folder: Path) -> FrontEnd:
    """Read the sizes of a model's features from its directory.

    Raises
    ------
    FormatError
        There is no such file, or a value is not what its key says.
    UnsupportedModelError
        A key asks for other features than those that are made here.
    """
    for name, key in ((FILE, None), (PROCESSOR_FILE, PROCESSOR_KEY)):
        path = folder / name
        if not path.is_file():
            continue
        values = read_object(path)
        found = values if key is None else values.get(key)
        if isinstance(found, Mapping):
            return front_end(found)
    raise FormatError(
        f"{folder} has no {FILE}, which says how audio becomes features; "
        "copy it from the original model"
    )


def front_end(config: Mapping[str, Any]) -> FrontEnd:
    """Take the sizes of features from the values of a ``preprocessor_config.json``.

    Raises
    ------
    FormatError, UnsupportedModelError
        As :func:`read_front_end`.
    """
    KEYS.check(config)
    mels, seconds = (
        count(config, key, default, file=FILE)
        for key, default in (("feature_size", 80), ("chunk_length", 30))
    )
    if mels not in _BANDS:
        raise UnsupportedModelError(
            f"{FILE}: feature_size={mels} is not supported; only 80 and 128 are"
        )
    front = FrontEnd(mels, seconds)
    for key, implied in (("n_samples", front.samples), ("nb_max_frames", front.frames)):
        if config.get(key, implied) != implied:
            raise FormatError(
                f"{FILE}: {key}={config[key]!r} does not belong to chunk_length={seconds}, "
                f"which implies {implied}"
            )
    _check_filters(config.get("mel_filters"), mels)
    return front


def _check_filters(stored: Any, mels: int) -> None:
    """Older files hold the filters themselves: they have to be those that are used here."""
    if stored is None:
        return
    try:
        values = np.asarray(stored, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    made = mel_filters(mels)
    if values.shape == made.T.shape:
        values = values.T
    if values.shape != made.shape or not np.abs(values - made).max() < _FILTER_TOLERANCE:
        raise UnsupportedModelError(
            f"{FILE}: mel_filters are not the {mels} bands of Slaney's mel scale up to "
            f"{RATE // 2} Hz; only those are supported"
        )
