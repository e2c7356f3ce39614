"""The learning curve of a run, as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["draw_curve", "learning_curve"]


def learning_curve(metrics: list[dict[str, Any]], report: dict[str, Any], path: Path) -> None:
    """Save the learning curve as a PNG.

    Args:
        metrics: Lines of ``metrics.jsonl``.
        report: The run's report.
        path: The file to write.
    """
    with rc_context({"text.parse_math": False}):  # a tag of a task may hold dollar signs
        draw_curve(metrics, report).savefig(path, dpi=130, format="png")


def draw_curve(metrics: list[dict[str, Any]], report: dict[str, Any]) -> Figure:
    """Return the learning curve: success by update, and held-out success by depth; arguments as for ``learning_curve``."""
    figure = Figure(figsize=(10, 4.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    updates = [line["update"] + 1 for line in metrics]
    left.plot(updates, [line.get("success", math.nan) for line in metrics], color="#1f77b4", label="success (sampled, training tasks)")
    left.plot(updates, [line.get("call_accuracy", math.nan) for line in metrics], color="#ff7f0e", label="call accuracy")
    after, before = report["after"], report["before"]
    evaluations = [(0, before)] if before is not None else []
    for update, evaluation in [*evaluations, (report["updates"], after)]:
        error = [[max(0.0, evaluation["success"] - evaluation["success_low"])], [max(0.0, evaluation["success_high"] - evaluation["success"])]]  # never below 0
        label = "held-out success, greedy" if evaluation is after else None
        left.errorbar([update], [evaluation["success"]], yerr=error, fmt="o", color="black", capsize=4, label=label)
    left.set(xlabel="update", ylim=(0, 1.03), title="Learning to use tools")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    depths = sorted(tag for tag in after["by_tag"] if tag.startswith("depth="))
    groups = depths or sorted(after["by_tag"])[:8]
    positions = range(len(groups))
    width = 0.38 if before is not None else 0.6
    if before is not None:
        heights = [before["by_tag"].get(tag, {"success": 0})["success"] for tag in groups]
        right.bar([p - width / 2 for p in positions], heights, width, color="#bbbbbb", label="warm start")
    shift = width / 2 if before is not None else 0
    right.bar([p + shift for p in positions], [after["by_tag"][tag]["success"] for tag in groups], width, color="#1f77b4", label="after RL")
    right.set_xticks(list(positions), [tag.split("=")[1] if depths else tag.replace("=", "\n") for tag in groups], fontsize=None if depths else 8)
    right.set(xlabel="calls that a task needs" if depths else "", ylim=(0, 1.03), title="Held-out success by depth" if depths else "Held-out success")
    for axes in (left, right):  # below the axes: within them it would hide data in some run
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8, frameon=False, columnspacing=1.2, handlelength=1.5)
    return figure
