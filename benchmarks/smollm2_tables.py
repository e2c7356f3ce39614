"""The tables of ``smollm2.py``: from stored episodes and measurements to lines of Markdown; pure.

Shares are means over tasks with bootstrap 95 % intervals over tasks; differences are paired by task.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steptool_agents import Trajectory, bootstrap, paired, summarize
from steptool_agents.parallel import profiling
from steptool_agents.rollouts.statistics import Interval

__all__ = ["by_depth", "changes", "costs", "main_table", "shown"]

Episodes = Mapping[str, Sequence[Trajectory]]
"""Key of a row -> its episodes; the same tasks in the same order for all rows."""
Calls = Mapping[str, tuple[str, ...]]
"""Task id -> the tools of the solution, see ``oracle_calls``."""


def main_table(titles: Mapping[str, str], played: Episodes, calls: Calls, seconds: Mapping[str, float]) -> list[str]:
    """Return the table of all rows.

    Args:
        titles: Key of a row -> what the table calls it.
        played: What was played.
        calls: What the solutions call.
        seconds: Seconds per task of the rows whose time is shown.
    """
    lines = [
        "| | success | recall of needed tools | call accuracy | calls without error | calls per episode | cut off by the budget | s per task |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for key, title in titles.items():
        whole = summarize(played[key], calls)
        cells = [_share(bootstrap(values)) for values in _measured(played[key], calls).values()]
        cells += [f"{whole.steps:.1f}", f"{whole.unfinished:.1%}", f"{seconds[key]:.1f}" if key in seconds else ""]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def by_depth(titles: Mapping[str, str], played: Episodes) -> list[str]:
    """Return a table of success by the depth of the tasks; empty where tasks do not say their depth. Arguments as for ``main_table``."""
    depths = np.array([one.task.tags.get("depth", 0) for one in played[next(iter(titles))]])
    known = [int(depth) for depth in np.unique(depths) if depth]
    if not known:
        return []
    lines = [f"| success by depth | {' | '.join(f'{depth} (n = {(depths == depth).sum()})' for depth in known)} |", "|---|" + "---:|" * len(known)]
    for key, title in titles.items():
        solved = np.array([one.success for one in played[key]])
        lines.append(f"| {title} | {' | '.join(_share(bootstrap(solved[depths == depth])) for depth in known)} |")
    return lines


def changes(played: Episodes, calls: Calls, after: str, before: Mapping[str, str]) -> list[str]:
    """Return a table of what lies between one row and others: points, and numbers of calls.

    Args:
        played: What was played.
        calls: What the solutions call.
        after: Key of the row.
        before: Key of another row -> what the table calls it.
    """
    lines = [f"| {after} less … | success | recall of needed tools | call accuracy | calls per episode |", "|---|---:|---:|---:|---:|"]
    ends = _measured(played[after], calls)
    for key, title in before.items():
        begins = _measured(played[key], calls)
        cells = [_difference(paired(ends[name], begins[name]), 100) for name in ("success", "recall", "call_accuracy")]
        counts = [[len(one.steps) for one in played[row]] for row in (after, key)]
        lines.append(f"| {title} | {' | '.join([*cells, _difference(paired(*counts), 1)])} |")
    return lines


def costs(warm_start: float, updates: Sequence[Mapping[str, Any]], training: float, playing: float) -> list[str]:
    """Return what took how long: a sentence, and a table of the phases of an update.

    Args:
        warm_start: Seconds of the warm start.
        updates: What the run measured, update by update.
        training: Seconds of the start that ended the training: of a run that was resumed, only the last part.
        playing: Seconds of the held-out episodes.
    """
    rollout, update = (sum(float(one[f"seconds_{what}"]) for one in updates) for what in ("rollout", "update"))
    training = max(training, rollout + update)
    parts = f"{warm_start / 60:.1f} min for the warm start, {training / 60:.1f} for the training, {playing / 60:.1f} for the held-out episodes"
    said = f"Wall time: {parts}; {(warm_start + training + playing) / 60:.1f} min in all."
    if not (count := len(updates)):
        return [said]
    rate = statistics.median(float(one["tokens_per_second"]) for one in updates)
    each = f"{(rollout + update) / count:.1f} s, {rollout / count:.1f} to play and {update / count:.1f} to learn"
    return [
        said,
        f"An update took {each}, at {rate:,.0f} tokens/s (median). Its phases:",
        "",
        "| phase | seconds | % | tokens | tokens/s |",
        "|---|---:|---:|---:|---:|",
        *(f"| {' | '.join(row)} |" for row in profiling.rows(updates)),
    ]


def shown(options: Mapping[str, Any]) -> str:
    """Return keywords of a suite as a command line takes them."""
    return "`" + " ".join(f"{name}={json.dumps(value)}" for name, value in options.items()) + "`"


def _measured(episodes: Sequence[Trajectory], calls: Calls) -> dict[str, list[float]]:
    """Return success, recall of needed tools, call accuracy and calls without error, per task."""
    each = [summarize([one], calls) for one in episodes]
    names = ("success", "recall", "call_accuracy", "call_success")
    return {name: [1.0 if (value := getattr(one, name)) is None else float(value) for one in each] for name in names}


def _share(found: Interval) -> str:
    return f"{found.mean:.1%} ({found.low:.1%} to {found.high:.1%})"


def _difference(found: Interval, scale: float) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(scale * value for value in (found.mean, found.low, found.high)))
