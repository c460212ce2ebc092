"""A disk on which one write fails, is interrupted, or takes a part of what it is given.

Where it fails, so may an opening of a file that is to be written, a sync, a renaming or a link.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FAILURES = {"full": errno.ENOSPC, "broken": errno.EIO}
HARMLESS = ("interrupted", "short")
KINDS = (*FAILURES, *HARMLESS)


class Fault:
    """What happens at the ``at``-th write below a directory, and how many there were."""

    def __init__(self, kind: str, at: int) -> None:
        self.kind, self.at, self.count = kind, at, 0

    def due(self) -> bool:
        self.count += 1
        return self.count == self.at

    @property
    def happened(self) -> bool:
        return self.count >= self.at

    def write(self, write: Callable[[Any], int], content: Any) -> int:
        if not self.due():
            return write(content)
        if self.kind == "short":
            return write(memoryview(content)[: max(len(content) // 2, 1)])
        if self.kind == "interrupted":
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        raise OSError(FAILURES[self.kind], os.strerror(FAILURES[self.kind]))

    def sync(self, sync: Callable[[int], None], descriptor: int) -> None:
        self.step()
        sync(descriptor)

    def step(self, path: object = None) -> None:
        """What is not a write, and can only fail."""
        if self.kind in FAILURES and self.due():
            raise OSError(FAILURES[self.kind], os.strerror(FAILURES[self.kind]), path)


@contextlib.contextmanager
def faulty(root: Path, kind: str, at: int) -> Iterator[Fault]:
    """Let one change below ``root`` go wrong: of buffered files, of descriptors, or of names."""
    fault = Fault(kind, at)

    class Raw(io.FileIO):
        def write(self, content: Any) -> int:
            return fault.write(super().write, content)

    def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode not in ("wb", "ab", "xb") or options.get("opener") or str(root) not in str(path):
            return plain_open(path, mode, *rest, **options)
        fault.step(str(path))
        return io.BufferedWriter(Raw(path, mode.replace("b", "")))

    def written(descriptor: int, content: Any) -> int:
        if str(root) not in os.readlink(f"/proc/self/fd/{descriptor}"):
            return plain_write(descriptor, content)
        if fault.kind == "interrupted":  # Python goes on by itself
            return plain_write(descriptor, content)
        return fault.write(lambda some: plain_write(descriptor, some), content)

    def synced(descriptor: int) -> None:
        fault.sync(plain_sync, descriptor)

    def opened_low(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT and str(root) in str(path):
            fault.step(str(path))
        return plain_open_low(path, flags, *rest, **options)

    def named(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(old: Any, *rest: Any, **options: Any) -> Any:
            if str(root) in str(old):
                fault.step(str(old))
            return real(old, *rest, **options)

        return called

    plain_open, plain_write, plain_sync = io.open, os.write, os.fsync
    plain_open_low = os.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(os, "write", written)
        patch.setattr(os, "fsync", synced)
        patch.setattr(os, "open", opened_low)
        for name in ("rename", "replace", "link", "mkdir"):
            patch.setattr(os, name, named(getattr(os, name)))
        yield fault
