"""Tiny random Whisper models, and what they are to give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_weights import MemorySource, random_weights

from lrc.models import declared, load_model
from lrc.models.whisper import WhisperModel

GOLDEN = Path(__file__).parent / "data" / "golden" / "parity" / "whisper"
BASE: dict[str, Any] = {
    "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"],
    "is_encoder_decoder": True, "d_model": 24, "vocab_size": 61, "num_mel_bins": 80,
    "encoder_layers": 2, "encoder_attention_heads": 3, "encoder_ffn_dim": 40,
    "decoder_layers": 2, "decoder_attention_heads": 3, "decoder_ffn_dim": 56,
    "max_source_positions": 50, "max_target_positions": 40, "tie_word_embeddings": True,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2,
    "begin_suppress_tokens": [5, 1], "suppress_tokens": None,
}  # fmt: skip
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "uneven": {
        "d_model": 30, "encoder_attention_heads": 5, "decoder_attention_heads": 3,
        "encoder_layers": 3, "decoder_layers": 1, "decoder_ffn_dim": 20, "num_mel_bins": 128,
        "tie_word_embeddings": False, "activation_function": "relu",
    },
    "odd_heads": {
        "d_model": 42, "encoder_attention_heads": 7, "decoder_attention_heads": 14,
        "encoder_layers": 1, "decoder_layers": 3, "encoder_ffn_dim": 24,
        "max_source_positions": 150, "scale_embedding": True,
    },
}  # fmt: skip
#: What `transformers` generates is on record under these rules.
SUPPRESSED, SUPPRESSED_FIRST, NEW_TOKENS = [3, 7, 11, 30], [5, 1], 20
#: And, with times: the token that ends a text, the one for no times, and steps to the latest first.
TIMED_END, NO_TIMES, LATEST_FIRST = 39, 40, 5


@dataclass(frozen=True)
class Case:
    """A configuration, and the files without their ending of what it must give."""

    config: dict[str, Any]
    golden: Path

    def source(self, seed: int) -> MemorySource:
        config = dict(self.config)
        return MemorySource(config, random_weights(declared(config), seed))

    def model(self, seed: int) -> WhisperModel:
        model = load_model(self.source(seed))
        assert isinstance(model, WhisperModel)
        return model

    def features(self, seed: int, batch: int = 2) -> NDArray[np.float32]:
        """Features (B, mels, frames) as loud as real ones."""
        shape = batch, self.config["num_mel_bins"], 2 * self.config["max_source_positions"]
        return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)

    def ids(self, seed: int, *shape: int) -> NDArray[np.integer]:
        return np.random.default_rng(seed).integers(0, self.config["vocab_size"], shape)


CASES = {name: Case({**BASE, **row}, GOLDEN / name) for name, row in ROWS.items()}
