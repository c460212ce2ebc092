"""Results of the demo's stages on disk, each beside the key of everything that decided it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrc.base.progress import Progress

Record = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """Records that all depend on ``identity``."""

    identity: Record
    progress: Progress

    def of(
        self, path: Path, key: Record, make: Callable[[], Record], *, anew: bool = False
    ) -> Record:
        """Give the record at ``path`` if it has the same key and not ``anew``, else make it."""
        from lrc.base.atomic import atomic_write_json
        from lrc.cli.tables import json_ready

        key = json_ready({**self.identity, **key})
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["key"] == key and not anew:
                self.progress.note(f"{path.stem}: found in {path}")
                return dict(found["value"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent or damaged: made afresh
        value: Record = json_ready(make())
        atomic_write_json(path, {"key": key, "value": value})
        return value
