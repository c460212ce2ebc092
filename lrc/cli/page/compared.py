"""Quality against size of several outputs, drawn only where they were measured on the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from lrc.cli.page import svg

if TYPE_CHECKING:
    from lrc.cli.page.page import Output
    from lrc.cli.page.peer import Peer
    from lrc.measure.quality import KeptEvaluation


class Group(NamedTuple):
    """Outputs that were measured on the same: rows of output and evaluation, and their chart."""

    title: str
    rows: list[tuple[Output | Peer, KeptEvaluation]]
    chart: Markup


class Compared(NamedTuple):
    """All groups, and outputs that are in none."""

    groups: list[Group]
    unmeasured: list[str]


def compared(outputs: Sequence[Output | Peer]) -> Compared:
    """Group evaluations that can be compared, and draw each group.

    Those with a divergence from an original only: nothing else is alike across texts.
    """
    found: dict[Any, list[tuple[Output | Peer, KeptEvaluation]]] = {}
    for output in outputs:
        for one in output.quality.evaluations:
            if one.kl_divergence is not None:
                found.setdefault(one.sample, []).append((output, one))
    groups = [Group(_title(rows[0][1]), rows, _chart(rows)) for rows in found.values()]
    groups.sort(key=lambda group: -len(group.rows))
    measured = {id(output) for rows in found.values() for output, _ in rows}
    return Compared(groups, [o.name for o in outputs if id(o) not in measured])


def _title(of: KeptEvaluation) -> str:
    return f"{of.text}, {of.windows} windows of {of.ctx} tokens, against {of.against}"


def _chart(rows: Sequence[tuple[Output | Peer, KeptEvaluation]]) -> Markup:
    from lrc.cli.page.page import finite

    points = [
        svg.Point(o.name, o.sizes["file_bytes"] / 1e6, e.kl_divergence, finite(e.kl_interval))
        for o, e in rows
        if e.kl_divergence is not None
    ]
    return svg.scatter(points, "size of the weight files, MB", "KL divergence, nats a token")
