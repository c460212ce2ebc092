"""``python -m lrc``: the command."""

import sys

from lrc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
