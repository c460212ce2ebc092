"""Charts as SVG that scales: numbers in, markup out. Colours are classes of `STYLE`.

A chart is 360 units wide, a phone's width, so that its text is as large there as the page's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 360, 40, 8, 10, 30
#: Classes c0, c1, ... of the style.
COLOURS = 8
#: Most letters of a row's name, and the width of one.
_LETTERS, _LETTER = 27, 5.9
Interval = tuple[float, float]
#: What pages with charts, and files with one, begin with.
STYLE = Markup(
    """:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --paper: #fff;
  --rule: #d8dee4; --c0: #0072b2; --c1: #e69f00; --c2: #009e73; --c3: #cc79a7;
  --c4: #d55e00; --c5: #56b4e9; --c6: #8a7a00; --c7: #7a7a7a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa4ae; --paper: #14171a;
  --rule: #39414a; --c0: #4aa8e0; --c6: #d8c93f; --c7: #a5a5a5; } }
svg text { font-size: 11px; fill: var(--ink); } svg .soft { fill: var(--soft); }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
.rule { stroke: var(--rule); } .thick { stroke-width: 4; }
"""
    + "\n".join(
        f".f{i} {{ fill: var(--c{i}); }} .l{i} {{ stroke: var(--c{i}); }} "
        f".k{i} {{ background: var(--c{i}); }}"
        for i in range(COLOURS)
    )
)


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

    def ticks(self, count: int = 4) -> list[float]:
        """About so many round values within the scale.

        Examples
        --------
        >>> Axis(0, 1, 0, 100).ticks()
        [0.0, 0.25, 0.5, 0.75, 1.0]
        >>> Axis(0, 29, 0, 100).ticks()
        [0.0, 10.0, 20.0]
        """
        wide = (self.high - self.low) / count
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


def heat(series: Mapping[str, Sequence[tuple[float, float]]], label: str) -> Markup:
    """A row a series, a column a block, and the stronger the larger the value."""
    values = [value for line in series.values() for _, value in line]
    blocks = [block for line in series.values() for block, _ in line]
    low, wide = min(values), max(values) - min(values)
    left = 8 + _LETTER * max(len(_short(name)) for name in series)
    first, columns = int(min(blocks)), int(max(blocks) - min(blocks)) + 1
    cell = (WIDTH - left - RIGHT) / columns
    square = Markup(
        '<rect x="{}" y="{}" width="{}" height="13" class="f0" fill-opacity="{}">'
        "<title>{}</title></rect>"
    )
    text = Markup('<text x="{}" y="{}" class="{}">{}</text>')
    pieces = []
    for row, (name, line) in enumerate(series.items()):
        pieces.append(text.format(left - 5, 14 * row + 11, "end", _short(name)))
        for block, value in line:
            strength = 0.06 + 0.94 * (value - low) / wide if wide else 1.0
            x = left + (block - first) * cell
            says = f"{name}, block {block:g}: {value:.4g}"
            size = (round(x, 2), 14 * row, round(max(cell - 0.5, 0.5), 2), round(strength, 3))
            pieces.append(square.format(*size, says))
    end = 14 * len(series) + 12
    for block in dict.fromkeys((first, first + columns - 1)):
        x = left + (block - first + 0.5) * cell
        pieces.append(text.format(round(x, 2), end, "middle", f"{block}"))
    pieces.append(text.format((left + WIDTH) / 2, end, "middle soft", "block"))
    return _picture(end + 4, label, pieces)


def _short(name: str, most: int = _LETTERS) -> str:
    """The end of a long name, which tells it from others."""
    return name if len(name) <= most else "\u2026" + name[1 - most :]


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
    pieces = _grid(x, y, height, x_label)
    for i, p in enumerate(points):
        if p.interval is not None:
            low, high = (y(end) for end in p.interval)
            pieces.append(line.format(low, high, i % COLOURS, x=x(p.x)))
        shift, anchor = (-7, "end") if x(p.x) > WIDTH / 2 else (7, "")
        says = f"{p.name}: {p.x:.4g}, {p.y:.4g}"
        place = (x(p.x) + shift, y(p.y) - 5)
        pieces.append(dot.format(x(p.x), y(p.y), i % COLOURS, says, *place, anchor, p.name))
    return _picture(height, f"{y_label} against {x_label}", pieces)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, label: str) -> Markup:
    """A line a series, with its name below."""
    every = [point for line in series.values() for point in line]
    height, across = 240, 3
    x = scale([a for a, _ in every], LEFT, WIDTH - RIGHT, zero=False)
    y = scale([b for _, b in every], height - BOTTOM, TOP)
    drawn = Markup(
        '<polyline points="{}" fill="none" stroke-width="1.5" class="l{}"><title>{}</title>'
        "</polyline>"
    )
    key = Markup(
        '<rect x="{}" y="{}" width="8" height="8" class="f{}"/><text x="{}" y="{}">{}</text>'
    )
    pieces = _grid(x, y, height, x_label)
    for i, (name, line) in enumerate(series.items()):
        places = " ".join(f"{x(a)},{y(b)}" for a, b in line)
        pieces.append(drawn.format(places, i % COLOURS, name))
        left, top = WIDTH // across * (i % across) + 4, height + 8 + 15 * (i // across)
        pieces.append(key.format(left, top, i % COLOURS, left + 12, top + 8, _short(name, 18)))
    return _picture(height + 12 + 15 * -(-len(series) // across), label, pieces)


def as_file(picture: Markup) -> str:
    """A picture with its style, for a file of its own.

    Its colours are the light ones, named outright: few programs but browsers know variables.
    """
    light, rules = STYLE.split("@media", 1)
    colours = dict(re.findall(r"(--\w+): (#\w+)", light))
    rules = "svg { font-family: sans-serif; } " + rules[rules.index("svg text") :]
    style = re.sub(r"var\((--\w+)\)", lambda of: colours[of[1]], rules)
    start, rest = picture[:4], picture[4:]
    head, body = rest.split(">", 1)
    paper = f'<rect width="100%" height="100%" fill="{colours["--paper"]}"/>'
    space = ' xmlns="http://www.w3.org/2000/svg"'
    return f"{start}{space}{head}><style>{style}</style>{paper}{body}\n"


def _grid(x: Axis, y: Axis, height: int, x_label: str) -> list[Markup]:
    """Lines and numbers of both scales."""
    rule = Markup(
        '<line x1="{}" x2="{}" y1="{y}" y2="{y}" class="rule"/>'
        '<text x="{}" y="{}" class="end">{}</text>'
    )
    text = Markup('<text x="{}" y="{}" class="middle{}">{}</text>')
    left, right = LEFT, WIDTH - RIGHT
    return [
        *(rule.format(left, right, left - 4, y(v) + 4, f"{v:g}", y=y(v)) for v in y.ticks()),
        *(text.format(x(v), height - BOTTOM + 14, "", f"{v:g}") for v in x.ticks()),
        text.format((left + right) / 2, height - 3, " soft", x_label),
    ]


def _picture(height: int, label: str, pieces: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("\n").join(pieces)
    )
