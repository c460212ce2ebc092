"""Messages and tools as clients send them, to what chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrc.errors import SpecError
from lrc.run.chat import Message

#: OpenAI's newer name of the system's role is unknown to templates.
_ROLES = {"developer": "system"}


def read_messages(given: Sequence[Any]) -> list[Message]:
    """Check messages: parts of text become one text, arguments of calls become objects.

    Raises
    ------
    SpecError
        There is none, one has no role, or holds anything but text.
    """
    if not given:
        raise SpecError("messages is an empty list; give at least one message")
    return [_message(message) for message in given]


def read_tools(
    tools: list[Any] | None, choice: str | dict[str, Any] | None
) -> list[dict[str, Any]] | None:
    """Tools for the template; None where there are none, or they must not be called.

    Raises
    ------
    SpecError
        One is no object, or a call is demanded: what a model answers is its own.
    """
    if not all(isinstance(tool, dict) for tool in tools or []):
        raise SpecError("tools must be a list of objects")
    if choice not in (None, "none", "auto"):
        raise SpecError("tool_choice must be 'auto' or 'none': no model can be made to call")
    return None if choice == "none" or not tools else tools


def _message(message: Any) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise SpecError("each of messages must be an object with a role, a text, and content")
    role = _ROLES.get(message["role"], message["role"])
    made: dict[str, Any] = {**message, "role": role, "content": _content(message.get("content"))}
    if isinstance(message.get("tool_calls"), list):
        made["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    elif made["content"] is None:
        raise SpecError(f"a message of {role!r} has no content; give a text")
    return made


def _content(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if not all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in parts):
        raise SpecError("content must be a text, or parts with text: this model reads nothing else")
    return "".join(part["text"] for part in parts)


def _call(call: Any) -> Any:
    """A call whose arguments, which come as JSON text, are an object."""
    function = call.get("function") if isinstance(call, Mapping) else None
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    if not isinstance(arguments, str):
        return call
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return call
    assert isinstance(function, Mapping)
    return {**call, "function": {**function, "arguments": parsed}}
