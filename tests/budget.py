"""Fewer examples for tests whose single example is dear, in every Hypothesis profile."""

from __future__ import annotations

from hypothesis import settings


def few(share: int) -> settings:
    """Settings with one ``share``-th of the profile's examples, at least five."""
    return settings(max_examples=max(settings.default.max_examples // share, 5))
