"""Prose and code that come with Python: modules whose source is half of it documentation."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from lrc.errors import CalibrationError

#: Of the standard library. The topics of ``help()`` are not among them: models are judged on those.
MODULES = (
    "argparse", "asyncio/base_events", "calendar", "collections/__init__", "configparser",
    "contextlib", "csv", "dataclasses", "difflib", "doctest", "email/message", "enum",
    "fractions", "functools", "heapq", "inspect", "ipaddress", "json/decoder", "locale",
    "logging/__init__", "mailbox", "optparse", "pathlib", "pdb", "pickle", "random", "shutil",
    "smtplib", "ssl", "statistics", "string", "subprocess", "tarfile", "textwrap", "threading",
    "turtle", "typing", "unittest/mock", "urllib/request", "zipfile",
)  # fmt: skip


def shipped_files() -> tuple[str, ...]:
    """Paths of those that this Python has.

    Raises
    ------
    CalibrationError
        It has none: its library is not stored as source.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = tuple(str(path) for name in MODULES if (path := root / f"{name}.py").is_file())
    if not found:
        raise CalibrationError(
            f"{root} has no source of Python's library; leave --shipped out, or give --calib FILE"
        )
    return found
