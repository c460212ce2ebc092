"""Exceptions. Each message says what was given, what was expected and what to do."""

from __future__ import annotations


class LrcError(Exception):
    """Base of every error that a user can cause or meet; the command prints it as one line."""


class SpecError(LrcError, ValueError):
    """A parameter, or a combination of them, is not allowed."""


class FormatError(LrcError, ValueError):
    """A file is missing, malformed, truncated or of an unknown version."""


class UnsupportedModelError(LrcError):
    """The model's configuration asks for something this library does not compute."""


class CalibrationError(LrcError):
    """The calibration text is empty, too short or yields no finite activations."""


class NumericalError(LrcError, ArithmeticError):
    """A matrix is not finite, or cannot be factored even after damping."""
