"""A power cut: what was not synced may be gone, and the rest is what it was.

A directory is, after the cut, what it is at that moment or what it was when it was last synced; a
file likewise, and where it was never synced, it may be a part of what was written, or zeros. What
of these it is follows from a seed.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dying

Entries = dict[str, int]


@dataclass
class Disk:
    """Directories and files by inode, as they were last synced."""

    root: Path
    directories: dict[int, Entries] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def at_rest(cls, root: Path) -> Disk:
        """Of a directory all of which is safe."""
        disk = cls(root)
        for folder, _, names in os.walk(root):
            disk.directories[os.stat(folder).st_ino] = entries(folder)
            for name in names:
                path = Path(folder, name)
                disk.files[path.stat().st_ino] = path.read_bytes()
        return disk

    def watch(self) -> None:
        """Note whatever is synced in this process from now on."""
        fsync = os.fsync

        def sync(descriptor: int) -> None:
            fsync(descriptor)
            found = os.fstat(descriptor)
            where = f"/proc/self/fd/{descriptor}"
            if stat.S_ISDIR(found.st_mode):
                self.directories[found.st_ino] = entries(where)
                self.files.pop(found.st_ino, None)  # numbers are given again
            else:
                self.files[found.st_ino] = Path(where).read_bytes()
                self.directories.pop(found.st_ino, None)

        os.fsync = sync


def entries(folder: str | Path) -> Entries:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


def cut_at(step: int, work: Callable[[], object], root: Path, seed: int) -> int:
    """Run ``work`` in a child, below whose ``step``-th change the power fails; its exit code.

    ``root`` is then what may be left.
    """
    noted = root.with_name(root.name + ".disk")

    def die() -> None:
        os.fsync = plain  # nothing below is a step
        noted.write_bytes(pickle.dumps((disk.directories, disk.files)))
        os._exit(dying.KILLED)

    disk, plain = Disk.at_rest(root), os.fsync

    def child() -> None:
        disk.watch()
        dying.at_step(step, die, work, str(root))

    code = dying.fork(child)
    if code == dying.KILLED:
        disk.directories, disk.files = pickle.loads(noted.read_bytes())
        noted.unlink()
        replace_by_remains(disk, random.Random(seed))
    return code


def replace_by_remains(disk: Disk, rng: random.Random) -> None:
    """Make of the root of a disk what a power cut may leave of it."""
    now = Disk.at_rest(disk.root)
    remains: dict[str, bytes | None] = {}

    def folder(inode: int, where: str) -> None:
        kept = disk.directories.get(inode, {})
        chosen = now.directories.get(inode, kept) if rng.randrange(2) else kept
        for name, inner in sorted(chosen.items()):
            path = f"{where}{name}"
            known = now if inner in now.directories or inner in now.files else disk
            if inner in known.directories:
                remains[path] = None
                folder(inner, f"{path}/")
            else:
                remains[path] = file(inner)

    def file(inode: int) -> bytes:
        written, synced = now.files.get(inode), disk.files.get(inode)
        if written is None or written == synced or (synced is not None and rng.randrange(2)):
            return synced or b""
        cut = rng.randrange(len(written) + 1)
        return (written, b"", written[:cut], bytes(len(written)))[rng.randrange(4)]

    folder(os.stat(disk.root).st_ino, "")
    for path in disk.root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in remains.items():
        path = disk.root / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
