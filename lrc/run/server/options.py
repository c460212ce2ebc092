"""What a server allows its clients."""

from __future__ import annotations

from dataclasses import dataclass

from lrc.base.record import Record, require
from lrc.run.lookup import check_lookup


@dataclass(frozen=True)
class ServeOptions(Record):
    """Limits of a server, and how it works.

    Parameters
    ----------
    streams : int
        Texts that are worked on at the same time; further ones wait.
    context : int
        Most tokens of a text, prompt and answer; 0 takes the model's, at most 4096.
    waiting : int
        Texts that may wait; a request that brings more is refused.
    choices : int
        Most texts of one request: its prompts times ``n``.
    body : int
        Most bytes of a request.
    batch : bool
        Whether texts are advanced together where that is faster; see `lrc.run.streams.Streams`.
    lookup : int
        Most tokens that are read ahead where a text repeats; see `lrc.run.generate.generate`.
    kv_bits : int
        8 or 4: keys and values are kept in so many bits; 0: in float32.
    api_key : str
        What clients have to send; "" lets everybody in.
    """

    streams: int = 8
    context: int = 0
    waiting: int = 128
    choices: int = 128
    body: int = 4 << 20
    batch: bool = True
    lookup: int = 0
    kv_bits: int = 0
    api_key: str = ""

    def check(self) -> None:
        """Refuse values that are not allowed."""
        for name in ("streams", "choices", "body"):
            value = getattr(self, name)
            require(value >= 1, f"{name}={value} must be at least 1")
        check_lookup(self.lookup)
        for name in ("context", "waiting"):
            value = getattr(self, name)
            require(value >= 0, f"{name}={value} must be at least 0")
