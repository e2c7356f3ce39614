"""Success on held-out tasks before and after training, with intervals: over all of them, by depth, and by family."""

from __future__ import annotations

from collections.abc import Sequence

from ..rollouts.statistics import bootstrap
from ..trajectory import Trajectory
from ..trajectory.shown import labels
from .charts import Dot, intervals

__all__ = ["held_out_charts"]

_MOST_GROUPS = 16
"""Most groups of a chart."""
_MOST_FALLBACK = 8
"""Most tags of a suite that has neither depths nor families."""


def held_out_charts(runs: Sequence[tuple[str, Sequence[Trajectory], Sequence[Trajectory]]]) -> str:
    """Return the charts, with the bootstrap interval of every group of tasks.

    Args:
        runs: Name, the episodes before training (perhaps none), and those after it.
    """
    names, played = [], list[Sequence[Trajectory]]()
    for run, before, after in runs:
        prefix = f"{run}, " if len(runs) > 1 else ""
        if before:
            names.append(f"{prefix}before")
            played.append(before)
        if after:
            names.append(f"{prefix}after training")
            played.append(after)
    found = list(dict.fromkeys(label for episodes in played for episode in episodes for label in labels(episode)))
    depths, families = (sorted(label for label in found if label.startswith(f"{tag}=")) for tag in ("depth", "family"))
    charts = [_chart("All tasks (how many)", names, played, [""])]
    if depths:
        charts.append(_chart("By depth, the calls that a task needs (tasks)", names, played, sorted(depths, key=_as_number)))
    if families:
        charts.append(_chart("By family (tasks)", names, played, families))
    if not depths and not families and found:
        charts.append(_chart("By tag (tasks)", names, played, sorted(found)[:_MOST_FALLBACK]))
    return f'<div class="charts">\n{"".join(charts)}</div>'


def _chart(title: str, names: Sequence[str], played: Sequence[Sequence[Trajectory]], groups: Sequence[str]) -> str:
    rows = []
    for group in groups[:_MOST_GROUPS]:
        chosen = [[episode.success for episode in episodes if not group or group in labels(episode)] for episodes in played]
        dots = [Dot(found.mean, found.low, found.high) if (found := bootstrap(values) if values else None) is not None else None for values in chosen]
        label = (group.partition("=")[2] if group.startswith(("depth=", "family=")) else group) or "all"
        rows.append((f"{label} ({max(map(len, chosen))})", dots))
    return intervals(title, names, rows)


def _as_number(label: str) -> tuple[float, str]:
    value = label.partition("=")[2]
    return (float(value) if value.lstrip("-").isdecimal() else float("inf"), value)
