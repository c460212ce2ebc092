"""WAV files: every kind that is read, and every way to be refused."""

import io
import struct
import wave

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st
from wav_files import chunk, wav_bytes

from lrc.audio.resample import read_audio, resampled
from lrc.audio.wav import read_wav
from lrc.errors import FormatError

KINDS = [(8, False), (16, False), (24, False), (32, False), (32, True), (64, True)]
kinds = pytest.mark.parametrize(("bits", "real"), KINDS)
SOUND = (0.4 * np.sin(np.arange(700) / 9.0)).astype(np.float32)


def read(tmp_path, raw, name="x.wav"):
    path = tmp_path / name
    path.write_bytes(raw)
    return read_wav(path)


def step(bits, real):
    """Half the distance of stored values, and float32's."""
    return 2.0**-24 if real else 2.0**-bits + 2.0**-24


@kinds
@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_every_kind_reads_back(tmp_path, bits, real, extensible, channels):
    gains = np.ones(1) if channels == 1 else np.linspace(0.5, 1.5, channels)
    raw = wav_bytes(SOUND[:, None] * gains, bits, 44100, real=real, extensible=extensible)
    samples, rate = read(tmp_path, raw)
    assert samples.dtype == np.float32
    assert rate == 44100
    assert np.abs(samples - SOUND).max() <= step(bits, real)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_files_of_the_standard_library_are_read(tmp_path, bits):
    raw = wav_bytes(SOUND, bits)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setparams((1, bits // 8, 16000, 0, "NONE", ""))
        out.writeframes(raw[44 : 44 + len(SOUND) * bits // 8])
    ours, theirs = read(tmp_path, raw)[0], read(tmp_path, buffer.getvalue())[0]
    assert np.array_equal(ours, theirs)


def test_full_scale_is_one(tmp_path):
    for bits in (8, 16, 24, 32):
        samples, _ = read(tmp_path, wav_bytes(np.array([-1.0, 0.0, 1.0]), bits))
        assert list(samples[:2]) == [-1.0, 0.0]
        assert samples[2] == np.float32(1 - 2.0 ** (1 - bits))


def test_other_chunks_are_passed(tmp_path):
    extra = chunk(b"LIST", b"odd") + chunk(b"fact", b"1234")
    assert np.array_equal(
        read(tmp_path, wav_bytes(SOUND, extra=extra))[0], read(tmp_path, wav_bytes(SOUND))[0]
    )


def test_what_was_written_into_a_pipe_is_read_to_its_end(tmp_path):
    raw = wav_bytes(SOUND, length=0xFFFFFFFF)
    assert len(read(tmp_path, raw)[0]) == len(SOUND)
    assert len(read(tmp_path, raw[:-1])[0]) == len(SOUND) - 1


def test_long_files_are_read_in_parts(tmp_path):
    sound = np.random.default_rng(1).uniform(-1, 1, (150_000, 2))
    samples, _ = read(tmp_path, wav_bytes(sound, 32, real=True))
    assert np.abs(samples - sound.mean(axis=1)).max() < 1e-7


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"fLaC\0\0\0\x22", "FLAC"), (b"OggS\0\2\0\0", "Ogg"), (b"ID3\4\0\0\0\0", "MP3"),
        (b"\xff\xfb\x90\0\0\0\0\0", "MP3"), (b"\0\0\0\x20ftypM4A ", "MP4"),
        (b"FORM\0\0\0\0AIFF", "AIFF"), (b"\x1aE\xdf\xa3....", "WebM"),
        (b"RF64\xff\xff\xff\xff", "RF64"),
        (b"RIFX\0\0\0\0WAVE", "RIFX"), (b"RIFF\0\0\0\0AVI LIST", "AVI"),
    ],
)  # fmt: skip
def test_other_formats_are_refused_by_name(tmp_path, start, name):
    with pytest.raises(FormatError, match=rf"{name}.*ffmpeg -i x\.audio"):
        read(tmp_path, start + bytes(100), "x.audio")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"kind": 0x11}, "IMA ADPCM"),
        ({"kind": 7}, "mu-law"),
        ({"kind": 0x1234}, "0x1234"),
        ({"channels": 0}, "0 channels"),
        ({"channels": 65535}, "65535 channels"),
        ({"rate": 0}, "0 samples a second"),
        ({"rate": 2**32 - 1}, "samples a second"),
        ({"bits": 0}, "0 bits"),
        ({"bits": 12}, "12 bits"),
        ({"frame_bytes": 3}, "said to take 3"),
        ({"length": 1402}, "1400 of the 1402"),
        ({"length": 2**31}, "of the 2147483648"),
        ({"length": 1399}, "no multiple"),
        ({"length": 0}, "no samples"),
        ({"extensible": True, "used": 17}, "17 of 16"),
        ({"extensible": True, "used": 0}, "0 of 16"),
        ({"extensible": True, "kind": 6}, "A-law"),
    ],
)
def test_headers_that_say_what_is_not_are_refused(tmp_path, header, said):
    with pytest.raises(FormatError, match=said):
        read(tmp_path, wav_bytes(SOUND, **header))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_samples_that_are_not_finite_are_refused(tmp_path, value):
    with pytest.raises(FormatError, match="not finite"):
        read(tmp_path, wav_bytes(np.array([0.0, value]), 64, real=True))


def test_chunks_without_end_are_refused(tmp_path):
    raw = wav_bytes(SOUND)[:12] + chunk(b"junk", b"") * 2000
    with pytest.raises(FormatError, match="chunks"):
        read(tmp_path, raw)


def test_samples_without_a_format_are_refused(tmp_path):
    raw = b"RIFF" + struct.pack("<I", 16) + b"WAVE" + chunk(b"data", b"1234")
    with pytest.raises(FormatError, match="before the chunk"):
        read(tmp_path, raw)


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(FormatError, match="does not exist"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(FormatError, match="no file"):
        read_wav(tmp_path)
    (tmp_path / "p").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid ...")
    with pytest.raises(FormatError, match="git lfs pull"):
        read_wav(tmp_path / "p")


@given(data=st.data())
def test_damage_is_one_line_or_samples(tmp_path_factory, data):
    """Any bytes changed, any end cut off: a FormatError of one line, or finite samples."""
    raw = bytearray(wav_bytes(SOUND[:40], 24, extensible=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, 80))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    said, samples = "", np.zeros(0)
    try:
        samples, _ = read_wav(path)
    except FormatError as error:
        said = str(error)
    assert bool(said) != bool(len(samples))
    assert "\n" not in said
    assert np.isfinite(samples).all()


@few(8)
@given(st.sampled_from([8000, 11025, 22050, 44100, 48000]), st.floats(50, 3000))
def test_resampled_tones_stay_tones(rate, hertz):
    t = np.arange(rate) / rate
    made = resampled(np.sin(2 * np.pi * hertz * t).astype(np.float32), rate, 16000)
    assert made.dtype == np.float32
    assert len(made) == 16000
    wanted = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)
    inner = slice(1000, -1000)  # the filter reaches over the ends
    assert np.abs(made - wanted)[inner].max() < 0.01


def test_files_at_the_wanted_rate_are_left(tmp_path):
    (tmp_path / "x.wav").write_bytes(wav_bytes(SOUND))
    assert np.array_equal(read_audio(tmp_path / "x.wav"), read_wav(tmp_path / "x.wav")[0])
