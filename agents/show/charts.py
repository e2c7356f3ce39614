"""Charts as inline SVG: lines, and means with their intervals. Colors follow the page, so that they are readable on light and dark.

Pure functions of numbers and names; every name is escaped. A chart is 360 units wide, so that its text is readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from steptool_env.html import as_text

__all__ = ["CHARTS_STYLE", "Dot", "Series", "intervals", "lines", "number"]

CHARTS_STYLE = """
.steptool { --c0: #1f6fb4; --c1: #d5560a; --c2: #16855f; --c3: #b0478f; --c4: #8a6d00; --c5: #6a58b8; --c6: #00808f; --c7: #777; }
@media (prefers-color-scheme: dark) {
  .steptool { --c0: #6cb2ee; --c1: #f4915a; --c2: #55c39a; --c3: #e391c7; --c4: #d8b53c; --c5: #a99bea; --c6: #4cc3d2; --c7: #a5a5a5; }
}
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.2rem 1.6rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; font-size: .9rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; max-width: 32rem; height: auto; overflow: visible; }
svg text { font: 10.5px system-ui, sans-serif; fill: currentColor; opacity: .8; }
svg .grid { stroke: var(--line); stroke-width: .6; }
svg polyline, svg .whisker { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: 0 .9rem; margin: .1rem 0 0; font-size: .8rem; overflow-wrap: anywhere; }
.legend b { display: inline-block; width: .8rem; height: .25rem; margin-right: .35rem; vertical-align: middle; }
"""
COLORS = 8
_MOST_POINTS = 240
"""A longer line is thinned to the means of neighbors, so that a page of a very long run stays small."""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360.0, 176.0, 42.0, 8.0, 8.0, 22.0


class Series(NamedTuple):
    """A line."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y) in ascending order of x; a y that is not finite interrupts the line."""


class Dot(NamedTuple):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


def lines(title: str, series: Sequence[Series], *, share: bool = False, x_label: str = "update") -> str:
    """Return a chart of lines, with a legend of their last values.

    Args:
        title: Above the chart.
        series: The lines; those without a finite point are only named in the legend.
        share: Whether the values are shares, shown in per cent with the whole range.
        x_label: Below the axis.
    """
    drawn = [Series(name, _thinned(points)) for name, points in series]
    finite = [(x, y) for one in drawn for x, y in one.points if math.isfinite(y)]
    if not finite:
        return _figure(title, "", '<p class="faint">No value yet.</p>')
    x_low, x_high = min(x for x, _ in finite), max(x for x, _ in finite)
    values = [y for _, y in finite]
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if share and max(values) > 0.3 else _ticks(0.0 if share else min(values), max(values))
    place_x = _scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
    place_y = _scale(min(ticks[0], *values), max(ticks[-1], *values), _HEIGHT - _BOTTOM, _TOP)
    parts = [_horizontal(place_y(tick), percent(tick) if share else number(tick)) for tick in ticks]
    for tick in _whole_ticks(x_low, x_high):
        parts.append(f'<text x="{place_x(tick):.1f}" y="{_HEIGHT - 8:.1f}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT:.1f}" y="{_HEIGHT + 3:.1f}" text-anchor="end">{as_text(x_label)}</text>')
    for index, one in enumerate(drawn):
        parts += _polylines(one.points, index, place_x, place_y)
    svg = f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT + 6:.0f}" role="img" aria-label="{as_text(title)}">{"".join(parts)}</svg>'
    last = [next((y for _, y in reversed(one.points) if math.isfinite(y)), math.nan) for one in series]
    told = [f"{one.name or 'last:'} {percent(value) if share else number(value)}" for one, value in zip(series, last, strict=True)]
    return _figure(title, svg, _legend(told))


def intervals(title: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[Dot | None]]]) -> str:
    """Return a chart of shares with their intervals, one row of dots for each label.

    Args:
        title: Above the chart.
        names: Of the dots of a row, for the legend.
        rows: Label and its dots, one for each name; None leaves it out.
    """
    left, step = 108.0, 9.0
    place = _scale(0.0, 1.0, left, _WIDTH - 14.0)
    parts, y = [], 4.0
    for label, dots in rows:
        height = step * len(dots) + 9.0
        parts.append(f'<text x="{left - 8:.1f}" y="{y + height / 2 + 3.5:.1f}" text-anchor="end">{as_text(_short(label))}</text>')
        for index, dot in enumerate(dots):
            if dot is not None and math.isfinite(dot.mean):
                parts.append(_whisker(place, dot, y + 4.5 + step * (index + 0.5), index))
        y += height
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{_WIDTH - 14:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    grid = [f'<line class="grid" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="2" y2="{y:.1f}"/>' for tick in (0.0, 0.25, 0.5, 0.75, 1.0)]
    axis = [f'<text x="{place(tick):.1f}" y="{y + 13:.1f}" text-anchor="middle">{percent(tick)}</text>' for tick in (0.0, 0.25, 0.5, 0.75, 1.0)]
    svg = f'<svg viewBox="0 0 {_WIDTH:.0f} {y + 18:.0f}" role="img" aria-label="{as_text(title)}">{"".join([*grid, *parts, *axis])}</svg>'
    return _figure(title, svg, _legend(names))


def number(value: float) -> str:
    """Return a number as a person writes it, with three digits; large ones in thousands and millions.

    >>> number(0.123456), number(12345.0), number(2.5e6), number(7.0), number(float("nan")), number(1e-5)
    ('0.123', '12.3k', '2.5M', '7', '–', '1e-05')
    """
    if not math.isfinite(value):
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.0f}{unit}" if abs(scaled) >= 100 else f"{scaled:.3g}{unit}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(value: float) -> str:
    """Return a share in per cent; more digits for small ones."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.0f}%" if abs(value) >= 0.095 or not value else f"{100 * value:.2g}%"


# -------------------------------------------------------------------- parts
def _figure(title: str, svg: str, below: str) -> str:
    return f"<figure><figcaption>{as_text(title)}</figcaption>{svg}{below}</figure>\n"


def _legend(names: Sequence[str]) -> str:
    entries = "".join(f'<span><b style="background: var(--c{index % COLORS})"></b>{as_text(name)}</span>' for index, name in enumerate(names))
    return f'<p class="legend">{entries}</p>'


def _horizontal(y: float, label: str) -> str:
    line = f'<line class="grid" x1="{_LEFT:.1f}" x2="{_WIDTH - _RIGHT:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{_LEFT - 5:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'


def _polylines(points: Sequence[tuple[float, float]], index: int, place_x: Callable[[float], float], place_y: Callable[[float], float]) -> list[str]:
    """Return the pieces of a line that have values, those of one point as a dot; lines after the first eight are dashed."""
    color = f"var(--c{index % COLORS})"
    dashes = ' stroke-dasharray="5 3"' if index >= COLORS else ""
    pieces: list[list[str]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            pieces[-1].append(f"{place_x(x):.1f},{place_y(y):.1f}")
        elif pieces[-1]:
            pieces.append([])
    found = []
    for piece in filter(None, pieces):
        if len(piece) == 1:
            at_x, at_y = piece[0].split(",")
            found.append(f'<circle cx="{at_x}" cy="{at_y}" r="2" style="fill: {color}"/>')
        else:
            found.append(f'<polyline points="{" ".join(piece)}" style="stroke: {color}"{dashes}/>')
    return found


def _whisker(place: Callable[[float], float], dot: Dot, y: float, index: int) -> str:
    color, told = f"var(--c{index % COLORS})", f"{percent(dot.mean)} ({percent(dot.low)} to {percent(dot.high)})"
    low, high = (place(min(max(end, 0.0), 1.0)) for end in (dot.low, dot.high))
    line = f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" style="stroke: {color}"/>'
    return f'<g><title>{told}</title>{line}<circle cx="{place(dot.mean):.1f}" cy="{y:.1f}" r="3" style="fill: {color}"/></g>'


def _short(label: str) -> str:
    return label if len(label) <= 18 else f"{label[:17]}…"


# -------------------------------------------------------------------- numbers
def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most ``_MOST_POINTS`` points: the means of neighbors, without what is not finite among them."""
    kept = [(float(x), float(y) if abs(y) < 1e300 else math.nan) for x, y in points]
    if len(kept) <= _MOST_POINTS:
        return kept
    found = []
    for group in np.array_split(np.array(kept), _MOST_POINTS):
        finite = group[np.isfinite(group[:, 1])]
        found.append((float(group[:, 0].mean()), float(finite[:, 1].mean()) if len(finite) else math.nan))
    return found


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    """Return the linear map from [low, high] to [first, last]; to the middle, if there is only one value."""
    if high <= low:
        return lambda value: (first + last) / 2
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers that enclose the range."""
    if high <= low:
        return [low]
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * unit for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * unit >= raw), 10.0 * unit)
    if not math.isfinite(step) or step <= 0.0 or low + step == low or high - step == high:
        return [low, high]
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def _whole_ticks(low: float, high: float) -> list[float]:
    """Return up to six whole numbers within the range."""
    if high <= low:
        return [low]
    step = max(1.0, float(10.0 ** math.floor(math.log10((high - low) / 5)) if high - low >= 5 else 1.0))
    step = next(factor * step for factor in (1.0, 2.0, 5.0, 10.0, 20.0) if (high - low) / (factor * step) <= 5.5)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
