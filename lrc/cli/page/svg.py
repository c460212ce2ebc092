"""Charts as SVG that scales: numbers in, markup out. Colours are classes of the page's style.

A chart is 360 units wide, a phone's width, so that its text is as large there as the page's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 360, 40, 8, 10, 30
#: Classes c0, c1, ... of the style.
COLOURS = 8
Interval = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A linear scale from values to units of the picture."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Place of a value."""
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.stop - self.start), 2)

    def ticks(self, count: int = 4, least: float = 0.0) -> list[float]:
        """About so many round values within the scale, at least ``least`` apart.

        Examples
        --------
        >>> Axis(0, 1, 0, 100).ticks()
        [0.0, 0.25, 0.5, 0.75, 1.0]
        >>> Axis(0, 29, 0, 100).ticks()
        [0.0, 10.0, 20.0]
        >>> Axis(0, 1, 0, 100).ticks(least=1)
        [0.0, 1.0]
        """
        wide = max((self.high - self.low) / count, least)
        size = 10.0 ** math.floor(math.log10(wide))
        step = next(f * size for f in (1, 2, 2.5, 5, 10) if f * size >= wide * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale(values: Sequence[float], start: float, stop: float, *, zero: bool = True) -> Axis:
    """A scale that holds all values, with a little air; from 0 where ``zero``."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high <= low:
        high, low = low + max(abs(low), 1) * 0.5, low - (0 if zero else max(abs(low), 1) * 0.5)
    air = 0.06 * (high - low)
    return Axis(low if zero and low == 0 else low - air, high + air, start, stop)


def stacked(parts: Mapping[str, float]) -> Markup:
    """One bar in pieces, as wide as the page; names and numbers belong beside it."""
    total = sum(parts.values()) or 1.0
    piece = Markup('<rect x="{}" y="0" width="{}" height="26" class="f{}"><title>{}</title></rect>')
    pieces, x = [], 0.0
    for i, (name, value) in enumerate(parts.items()):
        part, width = value / total, WIDTH * value / total
        says = f"{name}: {100 * part:.1f} %"
        pieces.append(piece.format(round(x, 2), round(width, 2), i % COLOURS, says))
        x += width
    return _picture(26, "what the bytes are spent on", pieces)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], label: str, *, places: str = "block"
) -> Markup:
    """Values over blocks, a colour a series; ``label`` says what is drawn."""
    height = 190
    points = [point for line in series.values() for point in line]
    x = scale([p[0] for p in points], LEFT, WIDTH - RIGHT)
    y = scale([p[1] for p in points], height - BOTTOM, TOP)
    pieces = [*_grid(x, y, height, places, whole=True)]
    for i, (name, line) in enumerate(series.items()):
        path = " ".join(f"{x(a)},{y(b)}" for a, b in line)
        pieces.append(Markup('<polyline points="{}" class="l{}"/>').format(path, i % COLOURS))
        pieces += [
            Markup('<circle cx="{}" cy="{}" r="2" class="f{}"><title>{}</title></circle>').format(
                x(a), y(b), i % COLOURS, f"{name}, {places} {a:g}: {b:.4g}"
            )
            for a, b in line
        ]
    return _picture(height, label, pieces)


def whisker(value: float, interval: Interval | None, of: Axis, label: str) -> Markup:
    """A value with its interval on a scale that others share."""
    line = Markup('<line x1="{}" x2="{}" y1="8" y2="8" class="{}"/>')
    pieces = [line.format(of.start, of.stop, "rule")]
    if interval is not None:
        pieces.append(line.format(of(interval[0]), of(interval[1]), "l0 thick"))
    pieces.append(Markup('<circle cx="{}" cy="8" r="4" class="f0"/>').format(of(value)))
    return _picture(16, label, pieces)


@dataclass(frozen=True)
class Point:
    """One output in a comparison."""

    name: str
    x: float
    y: float
    interval: Interval | None


def scatter(points: Sequence[Point], x_label: str, y_label: str) -> Markup:
    """Points with intervals and names; lower left is better."""
    height = 240
    ends = [e for p in points for e in (p.y, *(p.interval or ()))]
    x = scale([p.x for p in points], LEFT, WIDTH - RIGHT, zero=False)
    y = scale(ends, height - BOTTOM, TOP)
    line = Markup('<line x1="{x}" x2="{x}" y1="{}" y2="{}" class="l{}"/>')
    dot = Markup(
        '<circle cx="{}" cy="{}" r="4" class="f{}"><title>{}</title></circle>'
        '<text x="{}" y="{}" class="{}">{}</text>'
    )
    pieces = [*_grid(x, y, height, x_label)]
    for i, p in enumerate(points):
        if p.interval is not None:
            low, high = (y(end) for end in p.interval)
            pieces.append(line.format(low, high, i % COLOURS, x=x(p.x)))
        shift, anchor = (-7, "end") if x(p.x) > WIDTH / 2 else (7, "")
        says = f"{p.name}: {p.x:.4g}, {p.y:.4g}"
        place = (x(p.x) + shift, y(p.y) - 5)
        pieces.append(dot.format(x(p.x), y(p.y), i % COLOURS, says, *place, anchor, p.name))
    return _picture(height, f"{y_label} against {x_label}", pieces)


def _grid(x: Axis, y: Axis, height: int, x_label: str, *, whole: bool = False) -> list[Markup]:
    """Lines and numbers of both scales; those of x are whole where ``whole``."""
    rule = Markup(
        '<line x1="{}" x2="{}" y1="{y}" y2="{y}" class="rule"/>'
        '<text x="{}" y="{}" class="end">{}</text>'
    )
    text = Markup('<text x="{}" y="{}" class="middle{}">{}</text>')
    left, right = LEFT, WIDTH - RIGHT
    return [
        *(rule.format(left, right, left - 4, y(v) + 4, f"{v:g}", y=y(v)) for v in y.ticks()),
        *(
            text.format(x(v), height - BOTTOM + 14, "", f"{v:g}")
            for v in x.ticks(least=1.0 if whole else 0.0)
        ),
        text.format((left + right) / 2, height - 3, " soft", x_label),
    ]


def _picture(height: int, label: str, pieces: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("\n").join(pieces)
    )
