"""Commands on a disk that fails: each says so in a line, and is done again to the same bytes.

    python tests/faulty_commands.py [NAME ...]

fails every change of a file, one after another, of every command (or of those that are named).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import small_gguf
import tiny
from faulty_disk import FAILURES, faulty
from kills import SMALL
from kills import contents as all_contents

from lrc.cli.main import main
from lrc.parts.fields import RUN

OPTIONS = (
    *("--nsamples", "2", "--seqlen", "16", "--rank", "2", "--iterations", "1"),
    *("--threads", "1", "--quiet"),
)


def contents(root: Path) -> dict[str, bytes]:
    """Every file but the one that says how long a run took."""
    return {name: of for name, of in all_contents(root).items() if not name.endswith(RUN)}


@dataclass(frozen=True)
class Command:
    """A command below a directory, and what is there before it."""

    name: str
    arguments: Callable[[Path], list[object]]
    begin: Callable[[Path], object] = lambda root: None


def run(command: Command, root: Path) -> tuple[int, str]:
    """Exit code, and what it says on standard error."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main([str(argument) for argument in command.arguments(root)])
    return code, said.getvalue()


def commands(folder: Path) -> dict[str, Command]:
    """Everything that writes, on a model of two small blocks."""
    model = tiny.write_model(folder / "model", **SMALL)
    (text := folder / "text.txt").write_text(tiny.TEXT[:3000])
    compress = ["compress", model, "--calib", text, *OPTIONS]
    packed = folder / "packed"
    assert main([*map(str, compress), "-o", str(packed)]) == 0
    (folder / "whole").mkdir()
    dense, gguf = small_gguf.write_dense(folder / "whole"), folder / "whole" / "m.gguf"

    def copy(root: Path) -> None:
        shutil.copytree(packed, root / "m")

    tune = ["--against", model, "--calib", text, "--tokens", 64, "--seqlen", 16]
    found = [
        Command("compress", lambda root: [*compress, "-o", root / "out"]),
        Command("export-hf", lambda root: ["export", packed, "--to", "hf", "-o", root / "out"]),
        Command("export-gguf", lambda root: [
            "export", dense, "--to", "gguf", "-o", root / "out.gguf"]),
        Command("import-gguf", lambda root: ["import-gguf", gguf, "-o", root / "out"]),
        Command("tune", lambda root: ["tune", root / "m", *tune, "--quiet"], copy),
        Command("report", lambda root: ["report", root / "m"], copy),
        Command("publish", lambda root: ["publish", root / "m"], copy),
        Command("eval-keep", lambda root: [
            "eval", root / "m", "--text", text, "--ctx", 16, "--windows", 2, "--keep"], copy),
    ]  # fmt: skip
    return {command.name: command for command in found}


def undisturbed(command: Command, root: Path) -> tuple[dict[str, bytes], int]:
    """What comes of it, and how many changes may fail."""
    root.mkdir()
    command.begin(root)
    with faulty(root, "full", -1) as fault:
        code, said = run(command, root)
    assert code == 0, said
    return contents(root), fault.count


def faults(
    command: Command, root: Path, expected: dict[str, bytes], kind: str, at: int
) -> Iterable[str]:
    """What is wrong with a run whose ``at``-th change fails, and with the one after it."""
    root.mkdir()
    command.begin(root)
    before = contents(root)
    with faulty(root, kind, at) as fault:
        code, said = run(command, root)
    if not fault.happened:
        yield "nothing happened"
    if code == 0:
        if (now := contents(root)) != expected:
            yield f"ended well, with {sorted(k for k in expected if now.get(k) != expected[k])}"
        return
    errors = [line for line in said.splitlines() if line.startswith("lrc: error:")]
    if len(errors) != 1 or said.splitlines()[-1] != errors[0]:
        yield f"not one line: {said!r}"
    if os.strerror(FAILURES[kind]) not in said or "this is a bug" in said:
        yield f"not clear: {said!r}"
    present = {name for name in contents(root) if ".partial" not in name and ".tuning" not in name}
    if command.name not in ("tune", "compress") and present - before.keys() - expected.keys():
        yield f"left {sorted(present - before.keys())}"
    if code != 0 and (root / "out").exists():
        shutil.rmtree(root / "out") if (root / "out").is_dir() else (root / "out").unlink()
        yield "left an output"
    code, said = run(command, root)
    if code != 0:
        yield f"does not go on: {said!r}"
    elif (now := contents(root)) != expected:
        names = sorted(k for k in now.keys() | expected.keys() if now.get(k) != expected.get(k))
        yield f"goes on to other bytes: {names}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        known = commands(Path(place))
        for name in sys.argv[1:] or known:
            expected, count = undisturbed(known[name], Path(place) / f"{name}-whole")
            wrong = 0
            for kind in FAILURES:
                for at in range(1, count + 1):
                    root = Path(place) / f"{name}-{kind}-{at}"
                    for fault in faults(known[name], root, expected, kind, at):
                        wrong += 1
                        sys.stderr.write(f"{name} {kind} {at}: {fault}\n")
                    shutil.rmtree(root)
            sys.stdout.write(f"{name}: {2 * count} failures, {wrong} wrong\n")
            sys.stdout.flush()
