"""What a speech model's directory says of sound and of transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from lrc.audio.front_end import read_front_end
from lrc.audio.mel import FrontEnd
from lrc.errors import FormatError
from lrc.models.speech import SpeechModel
from lrc.run.speech_tokens import SpeechTokens
from lrc.run.text import TokenIds, Tokenizer


@dataclass(frozen=True)
class Speech:
    """The sizes of features, special tokens and the tokenizer of a speech model."""

    front: FrontEnd
    tokens: SpeechTokens
    tokenizer: Tokenizer

    @classmethod
    def open(cls, folder: Path, model: SpeechModel, tokenizer: Tokenizer) -> Self:
        """Read the files of a model's directory.

        Raises
        ------
        FormatError
            A file is missing or malformed, or its features are not those that the model hears.
        SpecError
            A special token is outside the model's vocabulary.
        """
        front, tokens = read_front_end(folder), SpeechTokens.read(folder)
        if model.features != (front.mels, front.frames):
            raise FormatError(
                f"preprocessor_config.json makes features of {front.mels} bands and "
                f"{front.frames} frames, and config.json expects {model.features}; the files "
                "do not belong together"
            )
        model.check_ids(np.array(tokens.named()))
        return cls(front, tokens, tokenizer)

    def text_ids(self, text: str) -> TokenIds:
        """Tokens (T,) of what is said; it begins with a space, as in Whisper's training."""
        return self.tokenizer.encode(f" {text.strip()}")
