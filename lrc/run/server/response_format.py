"""The key ``response_format`` of requests: any text, any JSON object, or JSON of a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.errors import SpecError
from lrc.run.schema import ANY_OBJECT
from lrc.run.server.fields import Fields


def read_format(wanted: dict[str, Any] | None) -> Mapping[str, Any] | None:
    """The schema of what is asked for; None where that is any text.

    Raises
    ------
    SpecError
        It is none of the three, or malformed.
    """
    if wanted is None:
        return None
    fields = Fields(wanted, "response_format")
    kind = fields.take("type", str)
    if kind not in ("text", "json_object", "json_schema"):
        raise SpecError(
            f"response_format {kind!r:.40} is not known; text, json_object and json_schema are"
        )
    given = fields.take("json_schema", dict) if kind == "json_schema" else None
    fields.finish()
    if given is None:
        return None if kind == "text" else ANY_OBJECT
    inner = Fields(given, "json_schema")
    for name in ("name", "description"):
        inner.take(name, str, None)
    inner.take("strict", bool, None)
    schema: dict[str, Any] = inner.take("schema", dict)
    inner.finish()
    return schema
