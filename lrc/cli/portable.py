"""``--portable``: the command starts itself again where its environment is not the portable one."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from lrc.base.strict_json import read_object
from lrc.errors import FormatError


def asked_for(args: argparse.Namespace) -> bool:
    """Whether the option, or the file of ``--config``, asks for portable bytes.

    What is wrong with that file is said later, by what reads all of it.
    """
    if args.portable or args.config is None:
        return bool(args.portable)
    try:
        return read_object(args.config).get("portable") is True
    except FormatError:
        return False


def restart_portable(args: argparse.Namespace) -> None:
    """Run the command of this process anew in the portable environment, unless this is one.

    Does not come back where it does. A program that calls :func:`lrc.cli.main.main` with arguments
    of its own is not started again: compressing then says what to set.

    Raises
    ------
    SpecError
        No environment would be portable here, or the one that would be has no effect.
    """
    from lrc.base.arithmetic import is_portable, portable_environment, require_portable

    if is_portable() or not args.is_process:
        return
    wanted = portable_environment()
    environment = {**os.environ, **wanted}
    if environment == dict(os.environ):
        require_portable()  # says why it is of no use
    command = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # where execve returns to the shell at once
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    os.execve(sys.executable, command, environment)
