"""Headers of WAV files: RIFF chunks (IBM and Microsoft, 1991) and WAVE_FORMAT_EXTENSIBLE."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lrc.audio.foreign import SNIFFED, foreign_codec, not_wav, remedy
from lrc.errors import FormatError

PCM, FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
#: Bits of a sample that are read, by kind.
WIDTHS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}
#: What a GUID of WAVE_FORMAT_EXTENSIBLE has behind the two bytes that are the format.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
#: Samples a second: from below telephones to above studios.
RATES = (1000, 384_000)
MAX_CHANNELS = 256
#: What programs that write into a pipe give as the length of the samples: until the end.
_UNTIL_THE_END = 0xFFFFFFFF
#: Chunks before the samples; more are no recording's.
_MOST_CHUNKS = 1000


@dataclass(frozen=True)
class WavHeader:
    """What the samples of a WAV file are, and where they lie.

    Attributes
    ----------
    kind : int
        `PCM` or `FLOAT`.
    bits : int
        Of one sample of one channel.
    channels : int
    rate : int
        Samples a second.
    first : int
        Byte of the first sample.
    frames : int
        Samples of each channel.
    """

    kind: int
    bits: int
    channels: int
    rate: int
    first: int = 0
    frames: int = 0

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * self.bits // 8


def read_header(stream: BinaryIO, size: int, path: Path) -> WavHeader:
    """Read the header of a WAV file of ``size`` bytes; ``path`` is named in errors.

    Raises
    ------
    FormatError
        It is no WAV file, one whose samples are not read, or one that is damaged.
    """
    start = stream.read(SNIFFED)
    if not (start.startswith(b"RIFF") and start[8:12] == b"WAVE"):
        raise not_wav(path, start)
    found: WavHeader | None = None
    at = 12
    for _ in range(_MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            raise FormatError(f"{path} ends before its samples; fetch or record it again")
        name, length = struct.unpack("<4sI", head)
        if name == b"fmt ":
            found = _read_format(stream.read(min(length, 40)), path)
        elif name == b"data":
            if found is None:
                raise FormatError(f"{path} has samples before the chunk that says what they are")
            return _with_samples(found, at + 8, length, size, path)
        at += 8 + length + length % 2
    raise FormatError(f"{path} has more than {_MOST_CHUNKS} chunks before its samples")


def _read_format(chunk: bytes, path: Path) -> WavHeader:
    if len(chunk) < 16:
        raise FormatError(
            f"{path}: its format takes {len(chunk)} bytes; expected 16 or more: it is damaged"
        )
    kind, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == _EXTENSIBLE:
        kind, bits_used = _extended(chunk, path)
        if not 1 <= bits_used <= bits:
            raise FormatError(
                f"{path} says that {bits_used} of {bits} bits are used; expected 1 to {bits}: it "
                "is damaged"
            )
    if kind not in WIDTHS:
        raise foreign_codec(path, kind)
    if bits not in WIDTHS[kind]:
        names = " or ".join(map(str, WIDTHS[kind]))
        what = "float" if kind == FLOAT else "PCM"
        raise FormatError(
            f"{path} has {what} samples of {bits} bits, and those of {names} are read; "
            f"{remedy(path)}"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise FormatError(
            f"{path} has {channels} channels; expected 1 to {MAX_CHANNELS}; {remedy(path)}"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise FormatError(
            f"{path} has {rate} samples a second; expected {RATES[0]} to {RATES[1]}; {remedy(path)}"
        )
    header = WavHeader(kind, bits, channels, rate)
    if frame_bytes != header.frame_bytes:
        raise FormatError(
            f"{path}: {channels} channels of {bits} bits are said to take {frame_bytes} bytes; "
            f"expected {header.frame_bytes}"
        )
    return header


def _extended(chunk: bytes, path: Path) -> tuple[int, int]:
    """Format and used bits of an extensible header; unused bits are the low ones, and zero."""
    if len(chunk) < 40:
        raise FormatError(
            f"{path}: its extensible format takes {len(chunk)} bytes; expected 40 or more: it is "
            "damaged"
        )
    bits_used, _, kind = struct.unpack("<HIH", chunk[18:26])
    if chunk[26:40] != _GUID_TAIL:
        raise FormatError(f"{path} has samples of an unknown format; {remedy(path)}")
    return kind, bits_used


def _with_samples(header: WavHeader, first: int, length: int, size: int, path: Path) -> WavHeader:
    left, frame = size - first, header.frame_bytes
    if length == _UNTIL_THE_END:
        length = left - left % frame
    if length > left:
        raise FormatError(
            f"{path} holds {left} of the {length} bytes of samples that it names; "
            "fetch or record it again"
        )
    if length % frame:
        raise FormatError(
            f"{path}: {length} bytes of samples are no multiple of the {frame} of one moment; "
            "fetch or record it again"
        )
    if length == 0:
        raise FormatError(f"{path} holds no samples; fetch or record it again")
    return WavHeader(header.kind, header.bits, header.channels, header.rate, first, length // frame)
