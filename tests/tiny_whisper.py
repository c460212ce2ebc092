"""A tiny random Whisper model in Hugging Face layout, with audio and texts for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from audio_cases import RATE, chirp, noise
from random_weights import random_weights
from safetensors.numpy import save_file
from wav_files import wav_bytes
from whisper_cases import BASE

from lrc.models import declared

SPECIAL = (
    "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
    "<|notimestamps|>",
)  # fmt: skip
START, EN, DE, TRANSLATE, TRANSCRIBE, NO_TIMESTAMPS = range(258, 264)
FIRST_TIME = 264
#: Windows of one second: 50 positions of the encoder.
CONFIG: dict[str, Any] = {
    **BASE, "vocab_size": 264, "bos_token_id": 257, "eos_token_id": 257, "pad_token_id": 257,
    "decoder_start_token_id": START, "d_model": 48, "encoder_layers": 1, "max_target_positions": 24,
    "encoder_ffn_dim": 88, "decoder_ffn_dim": 72,
    "encoder_attention_heads": 3, "decoder_attention_heads": 4,
    "begin_suppress_tokens": None,
}  # fmt: skip
GENERATION: dict[str, Any] = {
    "decoder_start_token_id": START, "eos_token_id": 257, "bos_token_id": 257,
    "lang_to_id": {"<|en|>": EN, "<|de|>": DE}, "is_multilingual": True,
    "task_to_id": {"translate": TRANSLATE, "transcribe": TRANSCRIBE},
    "no_timestamps_token_id": NO_TIMESTAMPS, "forced_decoder_ids": [[1, None], [2, TRANSCRIBE]],
    "suppress_tokens": [256, *range(START, NO_TIMESTAMPS + 1)], "begin_suppress_tokens": [220, 257],
    "max_length": 24,
}  # fmt: skip
PREPROCESSOR: dict[str, Any] = {
    "chunk_length": 1, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80,
    "hop_length": 160, "n_fft": 400, "n_samples": RATE, "nb_max_frames": 100,
    "padding_side": "right", "padding_value": 0.0, "processor_class": "WhisperProcessor",
    "return_attention_mask": False, "sampling_rate": RATE,
}  # fmt: skip
TEXTS = ("A chirp.", "Noise; all of it!", "Both at once", "and a 4th")


def write_model(path: Path, *, seed: int = 5, **changes: Any) -> Path:
    """Write a whole model directory; ``changes`` override entries of `CONFIG`."""
    config = CONFIG | changes
    path.mkdir(parents=True)
    save_file(random_weights(declared(config), seed), path / "model.safetensors")
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([f"<|{0.02 * i:.2f}|>" for i in range(config["vocab_size"] - FIRST_TIME)])
    tokenizer.save(str(path / "tokenizer.json"))
    named = {"bos_token": tiny.BOS, "eos_token": tiny.EOS}
    files = {
        "config.json": config, "generation_config.json": GENERATION,
        "preprocessor_config.json": PREPROCESSOR | {"feature_size": config["num_mel_bins"]},
        "tokenizer_config.json": named,
    }  # fmt: skip
    for name, value in files.items():
        (path / name).write_text(json.dumps(value))
    return path


def write_audio(folder: Path, *, language: str | None = "en") -> Path:
    """Write a list of short audio files of several kinds; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    sounds = [chirp(0.8), noise(0.6, 1), chirp(1.0, 200, 900) + noise(1.0, 2), noise(0.9, 3)]
    rows = []
    for number, (sound, text) in enumerate(zip(sounds, TEXTS, strict=True)):
        stereo = np.stack([sound, sound], axis=1) if number % 2 else sound
        (folder / f"{number}.wav").write_bytes(wav_bytes(stereo, (16, 24)[number // 2]))
        row = {"audio": f"{number}.wav", "text": text}
        rows.append(row | ({} if language is None else {"language": language}))
    path = folder / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path
