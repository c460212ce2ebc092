"""How layers compute: on which threads, and on which activations. It is passed along, never found.

Tiles have a fixed size, so that no bit depends on the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lrc.nn.engine.team import Team

T = TypeVar("T")


@dataclass(frozen=True)
class Execution:
    """What a layer needs to know beside its input.

    Attributes
    ----------
    team : Team or None
        Its threads share tiles of the work, and BLAS is kept to one (`single_threaded_blas`).
        None: tiles one after the other, and whole products by BLAS where no tiles are needed.
    integers : bool
        Whether packed layers may round a single token to 15 bits, and sum up a few tokens in an
        order of their own.
    """

    team: Team | None = None
    integers: bool = False

    def each(self, work: Callable[[T], object], tiles: Sequence[T]) -> None:
        """Call ``work`` on every tile, on the team's threads or here."""
        if self.team is None:
            for tile in tiles:
                work(tile)
        else:
            self.team.each(work, tiles)


#: Exact, in the calling thread.
PLAIN = Execution()
