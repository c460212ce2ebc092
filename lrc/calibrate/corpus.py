"""Calibration windows: from the user's files, or from text that the model writes itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import CalibrationError
from lrc.models.llama import LlamaModel
from lrc.progress import Progress
from lrc.self_text import first_token, sample_batch
from lrc.spec import CalibrationSpec
from lrc.tokens import Tokenizer, token_windows


def read_texts(path: Path) -> Iterator[str]:
    """Documents of a file: the ``text`` of each line of ``.jsonl``, else the whole file.

    Raises
    ------
    CalibrationError
        If the file cannot be read as UTF-8 text, or a JSON line has no ``text``.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"calibration file {path} cannot be read: {error}") from error
    if path.suffix != ".jsonl":
        yield content
        return
    # Not splitlines: JSON strings may hold U+2028, U+0085 and the like as they are.
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield _json_text(path, number, line)


def _json_text(path: Path, number: int, line: str) -> str:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise CalibrationError(f"{path}, line {number}: not JSON ({error})") from error
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise CalibrationError(
            f'{path}, line {number}: expected an object with a string "text"; '
            "use plain text in a .txt file otherwise"
        )
    return text


def calibration_windows(
    spec: CalibrationSpec,
    tokenizer: Tokenizer,
    model: LlamaModel,
    *,
    seed: int,
    threads: int,
    progress: Progress,
) -> NDArray[np.integer]:
    """Token windows, integers (nsamples, seqlen), all from files or all written by the model.

    Windows of files are consecutive from the beginning of the text, so the first ``nsamples *
    seqlen`` tokens are used.

    Raises
    ------
    CalibrationError
        If the files hold fewer tokens than asked for.
    """
    if not spec.files:
        return sample_batch(
            model,
            spec.nsamples,
            spec.seqlen,
            seed=seed,
            bos_id=first_token(model, tokenizer).id,
            threads=threads,
            progress=progress,
        )
    wanted = spec.nsamples * spec.seqlen
    ids: list[NDArray[np.integer]] = []
    seen = 0
    for text in (t for name in spec.files for t in read_texts(Path(name))):
        # Tokenizing much more text than is used would only cost time: 16 bytes a token is rare.
        ids.append(np.asarray(tokenizer.encode(text[: 16 * (wanted - seen) + 4096])))
        seen += len(ids[-1])
        if seen >= wanted:
            break
    flat = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    if len(flat) == 0:
        raise CalibrationError(f"no text in {', '.join(spec.files)}; give a file with text")
    return token_windows(flat, spec.seqlen, spec.nsamples)
