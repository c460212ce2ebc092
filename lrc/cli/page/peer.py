"""A model of anybody's in a comparison: the JSON that ``lrc eval --json`` has written of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from lrc.base.record import Record, require
from lrc.base.strict_json import read_object
from lrc.errors import FormatError, SpecError
from lrc.measure.quality import KeptEvaluation, Quality
from lrc.measure.storage import Storage


@dataclass(frozen=True)
class _Sizes(Record):
    """Figures of a model's size, as `lrc.measure.storage` has them."""

    name: str
    file_bytes: int
    bits_per_weight_file: float
    bits_per_weight_linear: float | None

    def check(self) -> None:
        """Refuse values that are not allowed."""
        require(self.file_bytes > 0, f"file_bytes={self.file_bytes} must be above 0")


@dataclass(frozen=True)
class Peer:
    """What a comparison needs of a model, as `lrc.cli.page.page.Output` has it."""

    name: str
    sizes: Storage
    quality: Quality

    @classmethod
    def open(cls, path: Path) -> Peer:
        """Read the figures.

        Raises
        ------
        FormatError
            They are none, or an older version of lrc wrote them, without what they are of.
        """
        record = read_object(path)
        try:
            found = KeptEvaluation.of(record, model="")
            sizes = _Sizes(**{field.name: record[field.name] for field in fields(_Sizes)})
        except (KeyError, TypeError, SpecError) as error:
            raise FormatError(
                f"{path} is not what lrc eval --json writes ({error}); evaluate again"
            ) from None
        stored = Storage(
            file_bytes=sizes.file_bytes,
            bits_per_weight_file=sizes.bits_per_weight_file,
            bits_per_weight_linear=sizes.bits_per_weight_linear,
        )
        return cls(sizes.name, stored, Quality((found,), 0))
