"""Conversations to text: Jinja chat templates, rendered in a sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrc.errors import LrcError, SpecError


def render_chat(
    template: str, messages: Sequence[Mapping[str, str]], special: Mapping[str, str]
) -> str:
    """Text of a conversation, up to where the model is to answer.

    Parameters
    ----------
    template : str
        Jinja source as model directories carry it.
    messages : sequence of {"role": ..., "content": ...}
    special : mapping of str to str
        Special tokens by role, visible to the template.

    Raises
    ------
    LrcError
        When jinja2 is not installed.
    SpecError
        When the template is broken or refuses the messages.
    """
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise LrcError(
            "chat templates need jinja2; install it with: pip install 'lrc-llm[chat]'"
        ) from error
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    try:
        text: str = environment.from_string(template).render(
            messages=list(messages), add_generation_prompt=True, **special
        )
    except jinja2.TemplateError as error:
        raise SpecError(f"the model's chat template failed: {error}") from error
    return text


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON without HTML escapes, as the templates expect."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise SpecError(f"the model's chat template refuses: {message}")


def _now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
