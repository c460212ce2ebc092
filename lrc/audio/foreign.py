"""Files that are no WAV, called by their names."""

from __future__ import annotations

from pathlib import Path

from lrc.errors import FormatError

#: Bytes at the start that tell a file's kind.
SNIFFED = 16
#: Where the mark lies, the mark, and the format's name.
_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg (Vorbis or Opus)"),
    (0, b"ID3", "MP3"),
    (4, b"ftyp", "MP4 (M4A)"),
    (0, b"FORM", "AIFF"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"caff", "Core Audio (CAF)"),
    (0, b".snd", "Sun audio (AU)"),
    (0, b"#!AMR", "AMR"),
    (0, b"0&\xb2u", "Windows Media (WMA)"),
    (0, b"riff", "Wave64"),
    (0, b"RF64", "RF64, a WAV of more than 4 GB"),
    (0, b"BW64", "BW64, a WAV of more than 4 GB"),
    (0, b"RIFX", "RIFX, a WAV of the other byte order"),
)
#: Codecs within a WAV file, by the number that its header gives.
_CODECS = {
    0x0002: "Microsoft ADPCM",
    0x0006: "A-law",
    0x0007: "mu-law",
    0x0011: "IMA ADPCM",
    0x0031: "GSM 6.10",
    0x0050: "MPEG",
    0x0055: "MP3",
    0x00FF: "AAC",
    0x0161: "Windows Media",
}


def not_wav(path: Path, start: bytes) -> FormatError:
    """The error for a file that is no RIFF of kind WAVE, from its first `SNIFFED` bytes."""
    name = next((name for at, mark, name in _MARKS if start[at:].startswith(mark)), None)
    if name is None and len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0:
        name = "MP3 or AAC"
    if name is None and start.startswith(b"RIFF"):
        name = f"RIFF of the kind {start[8:12].decode('latin-1')!r}"
    if name is None:
        return FormatError(f"{path} is no WAV file: {start[:4]!r} stands where 'RIFF' should")
    return FormatError(f"{path} is {name}, and WAV is read; {remedy(path)}")


def foreign_codec(path: Path, code: int) -> FormatError:
    """The error for a WAV file whose samples are coded."""
    name = _CODECS.get(code, f"format {code:#06x}")
    return FormatError(
        f"{path} is a WAV file of {name}, and PCM and float samples are read; {remedy(path)}"
    )


def remedy(path: Path) -> str:
    """What to do about a file that is not read."""
    return f"convert it, as with: ffmpeg -i {path.name} -ac 1 -ar 16000 -c:a pcm_s16le OUT.wav"
