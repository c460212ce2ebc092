"""Write the golden features of `tests/audio/test_mel.py` with Hugging Face transformers.

Needs the extra ``parity``. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_audio_golden.py

Audio is made by the formulas of `tests/audio_cases.py` and is not stored; of the features one
frame of 29 is, and the mean of all.
"""

from __future__ import annotations

import json

import numpy as np
from audio_cases import CASES, FOLDER, RATE, AudioCase, kept
from transformers import WhisperFeatureExtractor


def write_case(name: str, case: AudioCase) -> None:
    """Compute and write one case."""
    extractor = WhisperFeatureExtractor(feature_size=case.mels, chunk_length=case.seconds)
    features = extractor(case.audio, sampling_rate=RATE, return_tensors="np").input_features[0]
    np.savez_compressed(
        FOLDER / f"{name}.npz",
        shape=np.array(features.shape),
        frames=kept(features).astype(np.float32),
        mean=features.mean(dtype=np.float64),
    )
    saved = json.loads(extractor.to_json_string())
    saved.pop("mel_filters", None)
    (FOLDER / f"{name}.json").write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        write_case(name, case)
