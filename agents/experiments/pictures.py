"""The pictures of grids, with intervals: success by the levels of every factor, and by the depth of tasks or the share of calls that fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

__all__ = ["draw_curves", "draw_effects", "plot_effects"]

_COLORS = ("#1f77b4", "#d5560a", "#16855f", "#b0478f", "#8a6d00", "#6a58b8")
_MOST_LINES = len(_COLORS)


def plot_effects(table: Mapping[str, Any], path: Path, text: Callable[[Any], str]) -> None:
    """Save the picture as a PNG; arguments as for ``draw_effects``."""
    with rc_context({"text.parse_math": False}):  # a name may hold dollar signs
        draw_effects(table, text).savefig(path, dpi=130, format="png")


def draw_effects(table: Mapping[str, Any], text: Callable[[Any], str]) -> Figure:
    """Return the picture: one panel for each factor; of two factors, one line for each level of the other one.

    Args:
        table: As ``ablation.build`` returns it.
        text: From a level to how it is shown.
    """
    factors = table["factors"]
    figure = Figure(figsize=(3.6 * len(factors) + 0.8, 3.7), layout="constrained")
    panels = figure.subplots(1, len(factors), squeeze=False, sharey=True)[0]
    for axes, (name, given) in zip(panels, factors.items(), strict=True):
        ordered = all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in given)
        levels = sorted(given) if ordered else given
        others = [other for other in factors if other != name]
        if len(others) == 1 and len(factors[others[0]]) <= _MOST_LINES:
            for index, level in enumerate(factors[others[0]]):
                rows = [row for row in table["rows"] if row["levels"][others[0]] == level]
                points = [(levels.index(row["levels"][name]), row["success"], row["success_low"], row["success_high"]) for row in rows]
                shift = 0.1 * (index - (len(factors[others[0]]) - 1) / 2)
                _line(axes, points, f"{others[0]} = {text(level)}", _COLORS[index], shift=shift, joined=ordered)
        else:
            effects = [effect for effect in table["effects"] if effect["factor"] == name]
            points = [(levels.index(one["level"]), one["success"], one["low"], one["high"]) for one in effects]
            _line(axes, points, "", _COLORS[0], joined=ordered)
        axes.set_xticks(range(len(levels)), [_short(text(level)) for level in levels])
        axes.set(xlabel=name, ylim=(0, 1.03), xlim=(-0.5, len(levels) - 0.5))
        axes.grid(alpha=0.3, axis="y")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=8, frameon=False)
    panels[0].set_ylabel("held-out success")
    return figure


def draw_curves(points: Sequence[tuple[Mapping[str, Any], str]], labels: tuple[str, str], emphasized: str) -> Figure:
    """Return the picture of a table's curves: one line per method, one panel per name.

    Args:
        points: ``"method"``, ``"x"``, ``"mean"``, ``"low"`` and ``"high"`` of each point, and the name of its panel.
        labels: What x is, and what the points are.
        emphasized: The method whose line is black and wide.
    """
    panels = list(dict.fromkeys(name for _, name in points))
    methods = list(dict.fromkeys(point["method"] for point, _ in points))
    colors = colormaps["tab20"]
    figure = Figure(figsize=(4.0 * len(panels) + 1.8, 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, panel in zip(axes, panels, strict=True):
        xs = sorted({point["x"] for point, name in points if name == panel})
        room = 0.5 * min((right - left for left, right in itertools.pairwise(xs)), default=1.0) / len(methods)
        for index, method in enumerate(methods):
            line = [(point["x"], point["mean"], point["low"], point["high"]) for point, name in points if (point["method"], name) == (method, panel)]
            color, width = ("black", 2.4) if method == emphasized else (colors(index % 20), 1.2)
            _line(axis, line, method, color, shift=room * (index - (len(methods) - 1) / 2), width=width)
        axis.set(xlabel=labels[0], ylim=(0, 1.03), title=panel, xticks=xs)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(labels[1])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7, frameon=False)
    return figure


def _line(
    axes: Any, points: Sequence[tuple[float, float, float, float]], label: str, color: Any, *, shift: float = 0.0, joined: bool = True, width: float = 1.3
) -> None:
    """Draw points with their intervals.

    Args:
        axes: Where.
        points: x, mean, and both ends of the interval.
        label: Its name in the legend; empty: none.
        color: Any color of matplotlib.
        shift: Added to x, so that the intervals of several lines do not cover each other.
        joined: Whether a line joins the points; only where there is something between the values of x.
        width: Of the line, in points.
    """
    ordered = sorted(points)
    xs, means = [x + shift for x, *_ in ordered], [mean for _, mean, *_ in ordered]
    errors = [[max(0.0, mean - low) for _, mean, low, _ in ordered], [max(0.0, high - mean) for _, mean, _, high in ordered]]
    style = {"marker": "o", "markersize": 3.5, "capsize": 2.5, "linewidth": width, "elinewidth": 1.0, "linestyle": "-" if joined else "none"}
    axes.errorbar(xs, means, yerr=errors, color=color, label=label or None, **style)


def _short(text: str) -> str:
    return text if len(text) <= 14 else f"{text[:13]}…"
