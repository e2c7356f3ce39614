"""The picture of an ablation: success by the levels of every factor, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

__all__ = ["draw_effects", "plot_effects"]

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
                _line(axes, points, shift, f"{others[0]} = {text(level)}", _COLORS[index], joined=ordered)
        else:
            effects = [effect for effect in table["effects"] if effect["factor"] == name]
            _line(axes, [(levels.index(one["level"]), one["success"], one["low"], one["high"]) for one in effects], 0.0, "", _COLORS[0], joined=ordered)
        axes.set_xticks(range(len(levels)), [_short(text(level)) for level in levels])
        axes.set(xlabel=name, ylim=(0, 1.03), xlim=(-0.5, len(levels) - 0.5))
        axes.grid(alpha=0.3, axis="y")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=8, frameon=False)
    panels[0].set_ylabel("held-out success")
    return figure


def _line(axes: Any, points: list[tuple[int, float, float, float]], shift: float, label: str, color: str, *, joined: bool) -> None:
    """Draw points with their intervals; a line joins them only if there is something between the levels."""
    ordered = sorted(points)
    xs, means = [x + shift for x, *_ in ordered], [mean for _, mean, *_ in ordered]
    errors = [[max(0.0, mean - low) for _, mean, low, _ in ordered], [max(0.0, high - mean) for _, mean, _, high in ordered]]
    style = {"marker": "o", "markersize": 4, "capsize": 3, "linewidth": 1.3, "linestyle": "-" if joined else "none"}
    axes.errorbar(xs, means, yerr=errors, color=color, label=label or None, **style)


def _short(text: str) -> str:
    return text if len(text) <= 14 else f"{text[:13]}…"
