"""Which chat templates a model directory has, and which of them a conversation takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrc.errors import FormatError, SpecError
from lrc.formats.side_files import TEMPLATES
from lrc.run.special_tokens import SETTINGS, read_optional

DEFAULT = "default"
_TOOLS = "tool_use"
_FILE = "chat_template.jinja"
_PROCESSOR = "chat_template.json"


def read_templates(folder: Path) -> dict[str, str]:
    """Jinja sources by name, ``default`` for the one without a name; empty when there is none.

    Template files come before what ``tokenizer_config.json`` says, and that before
    ``chat_template.json``.

    Raises
    ------
    FormatError
        A file is not UTF-8, or an entry is neither a template nor a list of named ones.
    """
    return (
        _files(folder)
        or _entry(read_optional(folder / SETTINGS), SETTINGS)
        or _entry(read_optional(folder / _PROCESSOR), _PROCESSOR)
    )


def choose_template(
    templates: Mapping[str, str], name: str | None = None, *, tools: bool = False
) -> str:
    """Source of the template ``name``; without a name ``tool_use`` for tools, else ``default``.

    Raises
    ------
    SpecError
        When there is no such template.
    """
    if not templates:
        raise SpecError("this model has no chat template; give a plain prompt instead")
    if name is None:
        name = _TOOLS if tools and _TOOLS in templates else DEFAULT
    if name not in templates:
        raise SpecError(
            f"this model has no chat template {name!r}, only {', '.join(sorted(templates))}; "
            "give the name of one of them"
        )
    return templates[name]


def _files(folder: Path) -> dict[str, str]:
    named = sorted((folder / TEMPLATES).glob("*.jinja"))
    files = {DEFAULT: folder / _FILE} | {file.stem: file for file in named}
    return {name: _text(file) for name, file in files.items() if file.is_file()}


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{file} is not UTF-8 ({error}); expected a Jinja template") from error


def _entry(settings: Mapping[str, Any], file: str) -> dict[str, str]:
    """Entry ``chat_template``: one template, an object of named ones, or a list of them."""
    given = settings.get("chat_template")
    if given is None:
        return {}
    named = {DEFAULT: given} if isinstance(given, str) else given
    if isinstance(given, list):
        named = {t["name"]: t.get("template") for t in given if isinstance(t, dict) and "name" in t}
    if not isinstance(named, dict) or not all(isinstance(t, str) for t in named.values()):
        raise FormatError(
            f"{file}: chat_template is {json.dumps(given)[:60]}; expected a template or a list of "
            "objects with name and template"
        )
    return named
