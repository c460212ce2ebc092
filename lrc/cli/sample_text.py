"""English prose that every Python ships: the topics of its own ``help()``."""

from __future__ import annotations

#: What the text is called where it is told of.
SAMPLE_NAME = "Python's help topics"


def help_topics_text() -> str:
    """All help topics, in alphabetical order, a blank line apart.

    The text belongs to the running Python: figures measured on it compare two models under one
    Python version, not across versions.
    """
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name].strip() for name in sorted(topics.topics))
