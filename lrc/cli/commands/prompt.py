"""The prompt as the command is given it: an argument, or standard input."""

from __future__ import annotations

import sys

from lrc.errors import LrcError

_BYTE_ORDER_MARK = "\ufeff"


def read_prompt(given: str) -> str:
    """Text of ``--prompt``, or of standard input, without its last line end, where it is ``-``.

    A byte order mark before it is dropped. Bytes that are no UTF-8 become U+FFFD, those of an
    argument when they are encoded.

    Raises
    ------
    LrcError
        The process has no standard input.
    """
    if given != "-":
        return given.removeprefix(_BYTE_ORDER_MARK)
    source = getattr(sys.stdin, "buffer", None)
    if source is None:
        raise LrcError("there is no standard input to read the prompt from; give --prompt TEXT")
    text: str = source.read().decode("utf-8", "replace")
    return text.removesuffix("\n").removesuffix("\r").removeprefix(_BYTE_ORDER_MARK)
