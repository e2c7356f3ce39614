"""What people look at after a run: the table before and after, and the learning curve as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from steptool_env.audit import Audit

from .profiling import rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["audit_table", "draw_curve", "learning_curve", "profile_table", "table"]

_ROWS = (
    ("success", "success", "{:.1%}"),
    ("call accuracy", "call_accuracy", "{:.1%}"),
    ("calls without error", "call_success", "{:.1%}"),
    ("recall of needed tools", "recall", "{:.1%}"),
    ("calls of unknown tools", "hallucinated", "{:.1%}"),
    ("repeated calls", "repeated", "{:.1%}"),
    ("steps per episode", "steps", "{:.2f}"),
    ("steps over the oracle's", "steps_over_oracle", "{:.2f}"),
)


def table(report: dict[str, Any]) -> Table:
    """Return a run's report as a Rich table: held-out tasks, before and after reinforcement learning."""
    before, after = report["before"], report["after"]
    view = Table(title=f"{after['episodes']} held-out tasks", title_justify="left")
    view.add_column("")
    if before is not None:
        view.add_column("warm start", justify="right")
    view.add_column("after RL" if before is not None else "result", justify="right")
    if before is not None:
        view.add_column("change", justify="right")
    for label, key, form in _ROWS:
        if any(one is not None and one.get(key) is None for one in (before, after)):
            continue  # not measured on this suite
        view.add_row(label, *_cells(key, form, before, after))
    if any(one is not None and one.get("masked") for one in (before, after)):
        view.add_row("episodes cut off by a fault (masked)", *_cells("masked", "{:.0f}", before, after))
    for tag in sorted(after["by_tag"]):
        if tag.startswith(("depth=", "family=")):
            cells = [form_of(one, tag) for one in (before, after) if one is not None]
            if before is not None and tag in before["by_tag"]:
                cells.append(f"{100 * (after['by_tag'][tag]['success'] - before['by_tag'][tag]['success']):+.1f}")
            view.add_row(f"  success, {tag.replace('=', ' ')}", *cells)
    return view


def audit_table(audit: Audit) -> Table:
    """Return an audit as a Rich table: what each policy earned, from the highest return to the lowest."""
    view = Table(title=f"shaper {audit.shaper} on {audit.suite}, {max(row.episodes for row in audit.rows)} episodes each", title_justify="left")
    parts = list(dict.fromkeys(name for row in audit.rows for name in row.parts))
    view.add_column("policy")
    for column in ("return", "success", "steps", *parts):
        view.add_column(column, justify="right")
    best = next(row.reward for row in audit.rows if row.kind == "oracle")
    for row in audit.rows:
        style = {"oracle": "bold", "noisy oracle": "", "hack": "red" if row.reward > best + 1e-9 else "dim"}[row.kind]
        means = (f"{row.reward:+.3f}", f"{row.success:.2f}", f"{row.steps:.1f}", *(f"{row.parts.get(name, 0.0):+.3f}" for name in parts))
        view.add_row(f"{row.policy} ({row.missing} missing)" if row.missing else row.policy, *means, style=style)
    return view


def profile_table(updates: list[dict[str, Any]]) -> Table:
    """Return where the time of an update went, as a Rich table: means over the updates in a run's metrics."""
    view = Table(title=f"an update, mean of {len(updates)}", title_justify="left")
    view.add_column("phase")
    for column in ("seconds", "%", "tokens", "tokens/s"):
        view.add_column(column, justify="right")
    for row in rows(updates):
        view.add_row(*row)
    return view


def form_of(report: dict[str, Any], tag: str) -> str:
    """Return the success of the tasks with this tag as text."""
    group = report["by_tag"].get(tag)
    return f"{group['success']:.1%}" if group else "-"


def _cells(key: str, form: str, before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    def cell(one: dict[str, Any]) -> str:
        text = form.format(one[key])
        return f"{text} ({one['success_low']:.0%} to {one['success_high']:.0%})" if key == "success" else text

    if before is None:
        return [cell(after)]
    change = after[key] - before[key]
    return [cell(before), cell(after), f"{change:+.2f}" if form.endswith("f}") else f"{100 * change:+.1f}"]


def learning_curve(metrics: list[dict[str, Any]], report: dict[str, Any], path: Path) -> None:
    """Save the learning curve as a PNG.

    Args:
        metrics: Lines of ``metrics.jsonl``.
        report: The run's report.
        path: Where to.
    """
    draw_curve(metrics, report).savefig(path, dpi=130)


def draw_curve(metrics: list[dict[str, Any]], report: dict[str, Any]) -> Figure:
    """Return the learning curve: success by update, and held-out success by depth; arguments as for ``learning_curve``."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    updates = [line["update"] + 1 for line in metrics]
    left.plot(updates, [line["success"] for line in metrics], color="#1f77b4", label="success (sampled, training tasks)")
    left.plot(updates, [line["call_accuracy"] for line in metrics], color="#ff7f0e", label="call accuracy")
    after, before = report["after"], report["before"]
    ends = [(0, before)] if before is not None else []
    for update, one in [*ends, (report["updates"], after)]:
        error = [[max(0.0, one["success"] - one["success_low"])], [max(0.0, one["success_high"] - one["success"])]]  # rounding may cross the mean
        left.errorbar([update], [one["success"]], yerr=error, fmt="o", color="black", capsize=4, label="held-out success, greedy" if one is after else None)
    left.set(xlabel="update", ylim=(0, 1.03), title="Learning to use tools")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    depths = sorted(tag for tag in after["by_tag"] if tag.startswith("depth="))
    groups = depths or sorted(after["by_tag"])[:8]
    places = range(len(groups))
    width = 0.38 if before is not None else 0.6
    if before is not None:
        heights = [before["by_tag"].get(tag, {"success": 0})["success"] for tag in groups]
        right.bar([p - width / 2 for p in places], heights, width, color="#bbbbbb", label="warm start")
    shift = width / 2 if before is not None else 0
    right.bar([p + shift for p in places], [after["by_tag"][tag]["success"] for tag in groups], width, color="#1f77b4", label="after RL")
    right.set_xticks(list(places), [tag.split("=")[1] if depths else tag.replace("=", "\n") for tag in groups], fontsize=None if depths else 8)
    right.set(xlabel="calls that a task needs" if depths else "", ylim=(0, 1.03), title="Held-out success by depth" if depths else "Held-out success")
    for axes in (left, right):  # below the axes: wherever it lay within them, it would hide something in some run
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8, frameon=False, columnspacing=1.2, handlelength=1.5)
    return figure
