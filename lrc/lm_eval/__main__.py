"""The harness' own command, with the models of this library: ``python -m lrc.lm_eval``."""

from __future__ import annotations

import importlib.util
import sys


def main() -> int:
    """Run it; 1 where the harness is missing."""
    if importlib.util.find_spec("lm_eval") is None:
        message = "lrc: error: lm_eval is missing; install it: pip install 'lrc-llm[lm-eval]'\n"
        sys.stderr.write(message)
        return 1
    from lm_eval.__main__ import cli_evaluate

    import lrc.lm_eval  # noqa: F401

    cli_evaluate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
