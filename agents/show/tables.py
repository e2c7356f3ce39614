"""Tables for the terminal: a run before and after training, an audit, where the time went."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from steptool_env.audit import Audit
from steptool_env.words import counted

from ..parallel.profiling import rows

__all__ = ["audit_table", "profile_table", "report_rows", "table"]

_ROWS = (
    ("success", "success", "{:.1%}"),
    ("call accuracy", "call_accuracy", "{:.1%}"),
    ("calls without mistake", "call_success", "{:.1%}"),
    ("recall of needed tools", "recall", "{:.1%}"),
    ("calls of unknown tools", "hallucinated", "{:.1%}"),
    ("repeated calls", "repeated", "{:.1%}"),
    ("steps per episode", "steps", "{:.2f}"),
    ("steps / oracle", "steps_over_oracle", "{:.2f}"),
)


def table(report: dict[str, Any], title: str = "") -> Table:
    """Return a run's report as a Rich table, before and after reinforcement learning; the title says what was played, by default held-out tasks."""
    columns, told = report_rows(report)
    view = Table(title=title or counted(report["after"]["episodes"], "held-out task"), title_justify="left")
    view.add_column("")
    for column in columns:
        view.add_column(column, justify="right")
    for label, cells in told:
        view.add_row(Text(label), *cells)
    return view


def report_rows(report: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return what a run's report says as text: the names of the columns, and rows of a label and its cells."""
    before, after = report["before"], report["after"]
    evaluations = [evaluation for evaluation in (before, after) if evaluation is not None]
    found: list[tuple[str, list[str]]] = []
    for label, key, form in _ROWS:
        if any(evaluation.get(key) is None for evaluation in evaluations):
            continue  # not measured on this suite
        found.append((label, _cells(key, form, before, after)))
    for party in ("environment", "author"):
        key = f"failed by {party}"
        shares = [evaluation | {key: (evaluation.get("faults") or {}).get(party, 0.0)} for evaluation in evaluations]
        if any(evaluation[key] for evaluation in shares):
            found.append((f"calls failed by the {party}'s fault", _cells(key, "{:.1%}", shares[0] if before is not None else None, shares[-1])))
    if any(evaluation.get("masked") for evaluation in evaluations):
        found.append(("episodes cut off by a fault (masked)", _cells("masked", "{:.0f}", before, after)))
    for tag in sorted(after["by_tag"]):
        if tag.startswith(("depth=", "family=")):
            cells = [success_text(evaluation, tag) for evaluation in evaluations]
            if before is not None and tag in before["by_tag"]:
                cells.append(f"{100 * (after['by_tag'][tag]['success'] - before['by_tag'][tag]['success']):+.1f}")
            found.append((f"  success, {tag.replace('=', ' ')}", cells))
    return (["warm start", "after RL", "change"] if before is not None else ["result"]), found


def audit_table(audit: Audit) -> Table:
    """Return an audit as a Rich table: what each policy earned, from the highest return to the lowest."""
    title = Text(f"shaper {audit.shaper} on {audit.suite}, {max(row.episodes for row in audit.rows)} episodes each")
    view = Table(title=title, title_justify="left")
    parts = list(dict.fromkeys(name for row in audit.rows for name in row.parts))
    view.add_column("policy")
    for column in ("return", "success", "steps", *parts):
        view.add_column(Text(column), justify="right")
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
        view.add_row(*map(Text, row))
    return view


def success_text(report: dict[str, Any], tag: str) -> str:
    """Return the success on the tasks with this tag as text; ``"-"`` if there are none."""
    group = report["by_tag"].get(tag)
    return f"{group['success']:.1%}" if group else "-"


def _cells(key: str, form: str, before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    def cell(evaluation: dict[str, Any]) -> str:
        text = form.format(evaluation[key])
        return f"{text} ({evaluation['success_low']:.0%} to {evaluation['success_high']:.0%})" if key == "success" else text

    if before is None:
        return [cell(after)]
    change = after[key] - before[key]
    return [cell(before), cell(after), f"{change:+.2f}" if form.endswith("f}") else f"{100 * change:+.1f}"]
