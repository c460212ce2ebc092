"""The text of single tokens."""

from __future__ import annotations

from lrc.run.text import Tokenizer


class TokenTexts:
    """Texts of tokens as they are within a text, blanks included; special ones by name.

    Parameters
    ----------
    tokenizer : Tokenizer
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Decoders drop the blank that begins a text: a token stands before it.
        self._before = [int(i) for i in tokenizer.encode("a")[-1:]]
        self._skipped = len(tokenizer.decode(self._before, skip_special=False))
        self._known: dict[int, str] = {}

    def text(self, token: int) -> str:
        """Text of one token; U+FFFD where it is a part of a character."""
        if token not in self._known:
            whole = self._tokenizer.decode([*self._before, token], skip_special=False)
            self._known[token] = whole[self._skipped :]
        return self._known[token]
