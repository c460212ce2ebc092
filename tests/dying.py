"""Processes that die, or let another act, just before the k-th system call that changes a file.

Each runs in a fork, so that what is buffered is lost as in a real kill and no handler runs.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrc.base.atomic import atomic_directory, atomic_write_bytes

KILLED, FAILED = 9, 3
MOST_STEPS = 200
EVERYTHING = ["piece-0", "piece-1", "piece-2", "piece-all"]
_EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"),
    *("fcntl.flock", "shutil.rmtree", "shutil.copyfile"),
}


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a child; its exit code: 0, FAILED where it raised, KILLED where it died."""
    return wait(start(work))


def wait(child: int) -> int:
    """Exit code of a child that :func:`start` gave."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start(work: Callable[[], object]) -> int:
    """Run ``work`` in a child and do not wait; its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except Exception:
            if os.environ.get("LRC_DEBUG") == "1":
                traceback.print_exc()
        finally:
            os._exit(FAILED)
    return child


def at_step(step: int, act: Callable[[], object], work: Callable[[], object], root: str) -> int:
    """Run ``work`` and, once, ``act`` before its ``step``-th change of a file below ``root``.

    To be called in a fork: the hooks stay. Returns how many changes there were.
    """
    count = 0
    acting = False

    def tick() -> None:
        nonlocal count, acting
        if acting:
            return
        count += 1
        if count == step:
            acting = True
            act()
            acting = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and (event == "fcntl.flock" or root in str(arguments[0])):
            tick()

    def after(real: Callable[..., Any]) -> Callable[..., Any]:
        """Also a moment: opened, and made empty, but nothing written yet."""

        def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            stream = real(path, mode, *rest, **options)
            if root in str(path) and mode[0] in "wax":
                tick()
            return stream

        return opened

    def before(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            tick()
            return real(*arguments)

        return called

    io.open = after(io.open)  # type: ignore[assignment]
    builtins.open = after(builtins.open)  # type: ignore[assignment]
    for name in ("fsync", "write", "ftruncate"):
        setattr(os, name, before(getattr(os, name)))
    sys.addaudithook(hook)
    work()
    return count


def killed_at(step: int, work: Callable[[], object], root: object) -> int:
    """Run ``work`` in a child that dies before its ``step``-th change below ``root``."""
    return fork(lambda: at_step(step, lambda: os._exit(KILLED), work, str(root)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pieces(folder: Path) -> int:
    return sum(not path.suffix for path in folder.glob("piece-*"))


def make(out: Path, job: str, text: str = "x") -> None:
    """A job that finishes piece after piece, none of which it makes twice, and knows the end."""
    with atomic_directory(out, fingerprint=job, finished=pieces) as work:
        if not (work / "piece-all").exists():
            for i in range(3):
                if not (work / f"piece-{i}").exists():
                    atomic_write_bytes(work / f"piece-{i}", text.encode())
            atomic_write_bytes(work / "piece-all", text.encode())


def steps(act: Callable[[int], int]) -> int:
    """Call ``act`` with 1, 2, ... until it says 0: nothing happened any more."""
    for step in range(1, MOST_STEPS):
        if act(step) == 0:
            return step
    raise AssertionError("it does not end")


def give_up(out: Path) -> None:
    """A job that finishes nothing."""
    with atomic_directory(out) as work:
        (work / "half").write_text("x")
        (work / "sub").mkdir()
        (work / "sub" / "half").write_text("x")
        raise RuntimeError
