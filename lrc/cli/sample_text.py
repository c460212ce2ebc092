"""English prose that every Python ships: the topics of its own ``help()``."""

from __future__ import annotations

from pathlib import Path

#: What the text is called where it is told of.
SAMPLE_NAME = "Python's help topics"


def help_topics_text() -> str:
    """All help topics, in alphabetical order, a blank line apart.

    The text belongs to the running Python: figures measured on it compare two models under one
    Python version, not across versions.
    """
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name].strip() for name in sorted(topics.topics))


def given_text(path: Path | None) -> str:
    """The text of a file, ``.jsonl`` or plain; the help topics where there is none."""
    if path is None:
        return help_topics_text()
    from lrc.base.text_file import read_texts

    return "\n".join(read_texts(path))
