"""WAV files of every kind, written from their layout."""

from __future__ import annotations

import struct

import numpy as np

GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def wav_bytes(
    samples: np.ndarray, bits: int = 16, rate: int = 16000, *, real: bool = False,
    extensible: bool = False, extra: bytes = b"", **header: int,
) -> bytes:  # fmt: skip
    """A file of samples (N,) or (N, channels) in [-1, 1).

    ``header`` replaces fields: kind, channels, rate, frame_bytes, bits, length. ``extra``:
    chunks before the samples.
    """
    samples = samples.reshape(len(samples), -1)
    data = encoded(samples, bits, real=real)
    channels = samples.shape[1]
    fields = {
        "kind": 3 if real else 1, "channels": channels, "rate": rate,
        "frame_bytes": channels * bits // 8, "bits": bits, "length": len(data),
    } | header  # fmt: skip
    form = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else fields["kind"], fields["channels"], fields["rate"],
        fields["rate"] * fields["frame_bytes"] % 2**32, fields["frame_bytes"], fields["bits"],
    )  # fmt: skip
    if extensible:
        used = header.get("used", bits)
        form += struct.pack("<HHIH", 22, used, 0, fields["kind"]) + GUID_TAIL
    body = b"WAVE" + chunk(b"fmt ", form) + extra
    body += b"data" + struct.pack("<I", fields["length"]) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body) % 2**32) + body


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def encoded(samples: np.ndarray, bits: int, *, real: bool) -> bytes:
    if real:
        return samples.astype(f"<f{bits // 8}").tobytes()
    whole = np.rint(samples * 2.0 ** (bits - 1)).astype(np.int64)
    whole = np.clip(whole, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    raw = whole.astype("<i8").reshape(-1, 1).view(np.uint8)
    return np.ascontiguousarray(raw[:, : bits // 8]).tobytes()
