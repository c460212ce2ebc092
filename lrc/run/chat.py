"""Conversations to text: Jinja chat templates, rendered in a sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrc.errors import LrcError, SpecError
from lrc.run.template_bounds import bounded_text

Message = Mapping[str, Any]
#: Stands after the words to continue; the blank shows whether the template keeps blanks.
_END, _BLANK = "\ue0f0end\ue0f1", " "
#: Names of a message's reasoning: templates read the first, older ones the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")


def render_chat(
    template: str,
    messages: Sequence[Message],
    special: Mapping[str, str],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """Text of a conversation, up to where the model is to answer.

    Parameters
    ----------
    template : str
        Jinja source as model directories carry it.
    messages : sequence of {"role": ..., "content": ...}
        Entries that are None are left out.
    special : mapping of str to str
        Special tokens by role, visible to the template.
    tools, documents : sequence of mappings or None
        What the model may call or read: JSON schemas, and objects with title and text.
    add_generation_prompt : bool
        End with the header of the answer.
    continue_final_message : bool
        End within the last message, for the model to go on; no header of an answer then.
    variables : mapping or None
        Further names that the template knows, such as ``enable_thinking``.

    Raises
    ------
    LrcError
        When jinja2 is not installed.
    SpecError
        When the template is broken, fails, refuses the messages or takes too much time or memory.
    """
    chat = [_message(m) for m in messages]
    if continue_final_message:
        chat[-1:] = [_marked(m) for m in chat[-1:]]
    names = {
        **special,
        **_plain(dict(variables or {})),
        "messages": chat,
        "tools": _plain(tools),
        "documents": _plain(documents),
        "add_generation_prompt": add_generation_prompt and not continue_final_message,
    }
    environment = _environment()
    try:
        text = bounded_text(environment, template, names)
    except _RefusalError as error:
        raise SpecError(f"the model's chat template refuses: {_line(error)}") from error
    except Exception as error:  # whatever a template does wrong is the template's
        raise SpecError(f"the model's chat template failed: {_line(error)}") from error
    return _before_mark(text) if continue_final_message else text


class _RefusalError(Exception):
    """The template called ``raise_exception``."""


def _environment() -> Any:
    try:
        from jinja2 import nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise LrcError(
            "chat templates need jinja2; install it with: pip install 'lrc-llm[chat]'"
        ) from error

    class Generation(Extension):
        """The tag around what the model has written: its body, with names of its own."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


def _message(message: object) -> dict[str, Any]:
    """A message as templates expect it: plain data, nothing that is None."""
    if not isinstance(message, Mapping):
        raise SpecError(f"a message is {message!r}; expected a mapping with role and content")
    kept = {key: _plain(value) for key, value in message.items() if value is not None}
    reasoning = next((kept[name] for name in _REASONING if name in kept), None)
    if reasoning is None:
        return kept
    return {"thinking": reasoning, **kept, "reasoning_content": reasoning}


def _plain(value: object) -> Any:
    """JSON data, copied: a template must reach no method of the caller's objects.

    Raises
    ------
    SpecError
        For anything else.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise SpecError(
        f"a conversation holds a {type(value).__name__}; expected text, numbers, lists and mappings"
    )


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    """Mark the end of the message's text, or of the last text among its parts."""
    content = message.get("content")
    if isinstance(content, str):
        return message | {"content": content + _END + _BLANK}
    for part in reversed(content if isinstance(content, list) else []):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            part["text"] += _END + _BLANK
            return message
    raise SpecError("the final message has no text to continue")


def _before_mark(text: str) -> str:
    """Text up to the mark; blanks before it go when the template strips blanks."""
    before, mark, after = text.rpartition(_END)
    if not mark:
        raise SpecError("the model's chat template leaves out the end of the message to continue")
    return before if after.startswith(_BLANK) else before.rstrip()


def _line(error: Exception) -> str:
    """What happened, in one line."""
    words = " ".join(str(error).split())
    return words or type(error).__name__


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML escapes, as the templates expect."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> None:
    raise _RefusalError(message)


def _now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
