"""``steptool view``: what a model did, and what each step earned, from a file of trajectories. Nothing is played again.

Pure functions: trajectories in, lines and Rich renderables out; ``page.py`` makes the HTML page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from steptool_env.errors import CheckpointError, InvalidArgument, UnknownName, did_you_mean
from steptool_env.rendering import printable, shortened
from steptool_env.types import ERRORS, PARTIES, Malformed, whose
from steptool_env.words import counted, kind_of_error

from ..rollouts.evaluate import Report
from ..trajectory import Trajectory
from ..trajectory.shown import call_text, conclusion, ending, executed, labels, step_earned, total_reward

__all__ = ["episode_view", "errors", "find_file", "line", "overview", "select", "summary_line"]

_PATTERNS = ("*.jsonl", "run/trajectories.jsonl", "evaluations/*.jsonl", "cells/*/run/trajectories.jsonl")
"""Where files of trajectories may be in a folder that is no run: a cell of a grid, its evaluations, a whole grid."""
_OTHERS = ("metrics.jsonl", "before.jsonl")
"""Files of a run that are shown only if they are named."""
_MOST_NAMED = 8
"""Most files that an error names."""


# ---------------------------------------------------------------- files and filters
def find_file(path: Path) -> Path:
    """Return the file of trajectories that a path stands for: itself, that of a run's folder, or the only one in another folder.

    Raises:
        InvalidArgument: There is no such path.
        CheckpointError: The folder has no file of trajectories, or several; the message names them.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        near = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InvalidArgument(f"there is no file or folder {str(path)!r}.{did_you_mean(path.name, near)}")
    if (run_file := path / "trajectories.jsonl").is_file():
        return run_file
    found = sorted({file for pattern in _PATTERNS for file in path.glob(pattern) if file.name not in _OTHERS})
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(file.relative_to(path)) for file in found[:_MOST_NAMED]) + (
            f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        )
        raise CheckpointError(f"{path} has {len(found)} files of trajectories; view one of them: {names}")
    if (path / "config.json").is_file():
        raise CheckpointError(f"the run in {path} has no trajectories.jsonl yet: it writes them at its end. Go on with: steptool train --out {path} --resume")
    raise CheckpointError(f"{path} has no file of trajectories: a run writes trajectories.jsonl at its end, a cell of a grid evaluations/*.jsonl")


def select(
    trajectories: Sequence[Trajectory], *, solved: bool | None = None, task: str | None = None, tags: Iterable[str] = (), error: str | None = None
) -> dict[int, Trajectory]:
    """Return the episodes that match all of these filters, by their index in the file; perhaps none.

    Args:
        trajectories: All episodes of a file.
        solved: Only the solved ones, or only the others.
        task: Only those of the task with this id.
        tags: Only those with all of these tags, each as ``"depth=4"``.
        error: Only those with a step that had this kind of tool error, or an error that is this party's fault (``whose``).

    Raises:
        UnknownName: No episode of the file has the tag, or there is no such kind of error.
        InvalidArgument: No episode of the file is of the task.
    """
    wanted = set(tags)
    known = {label for trajectory in trajectories for label in labels(trajectory)}
    for missing in sorted(wanted - known):
        raise UnknownName("tag", missing, known)
    if error is not None and error not in (*ERRORS[1:], *PARTIES):
        raise UnknownName("kind of error", error, (*ERRORS[1:], *PARTIES))
    ids = dict.fromkeys(trajectory.task.id for trajectory in trajectories)
    if task is not None and task not in ids:
        raise InvalidArgument(f"no episode is of the task {task!r}.{did_you_mean(task, ids)} The first is of {next(iter(ids), None)!r}.")
    return {
        index: trajectory
        for index, trajectory in enumerate(trajectories)
        if solved in (None, trajectory.success >= 1.0)
        and task in (None, trajectory.task.id)
        and wanted <= set(labels(trajectory))
        and (error is None or any(error in (found, whose(found)) for found in errors(trajectory)))
    }


def errors(trajectory: Trajectory) -> list[str]:
    """Return the kinds of all errors of an episode, in order."""
    return [step.transition.result.error for step in trajectory.steps if step.transition.result.error]


# ---------------------------------------------------------------- one line an episode
def line(index: int, trajectory: Trajectory) -> dict[str, Any]:
    """Return an episode as one JSON object; ``errors`` counts by kind, ``faults`` by whose fault they were."""
    outcome = trajectory.steps[-1].transition.outcome
    return {
        "index": index,
        "task_id": trajectory.task.id,
        "tags": dict(trajectory.task.tags),
        "success": trajectory.success,
        "ending": ending(trajectory),
        "reason": outcome.reason if outcome is not None else "",
        "calls": len(trajectory.steps),
        "errors": dict(Counter(errors(trajectory))),
        "faults": dict(Counter(map(whose, errors(trajectory)))),
        "reward": total_reward(trajectory),
        "masked": int(trajectory.masked.sum()),
    }


def overview(lines: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of episodes, one row for each of these lines (see ``line``).

    It shows the tags depth and family; if no task has either, the first two tags.
    """
    names = dict.fromkeys(name for episode in lines for name in episode["tags"])
    shown = [name for name in ("depth", "family") if name in names] or list(names)[:2]
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("task", overflow="fold")
    for name in shown:
        table.add_column(Text(printable(name)), overflow="fold")
    table.add_column("outcome", no_wrap=True)
    for name in ("calls", "errors", "reward"):
        table.add_column(name, justify="right", no_wrap=True)
    for episode in lines:
        count = sum(episode["errors"].values())
        table.add_row(
            str(episode["index"]),
            *(Text(printable(str(text))) for text in (episode["task_id"], *(episode["tags"].get(name, "") for name in shown))),
            Text(episode["ending"], style=_color(episode["success"])),
            str(episode["calls"]),
            Text(str(count), style="red" if episode["faults"].get("model") else "yellow" if count else "dim"),
            "missing" if episode["reward"] is None else f"{episode['reward']:+.3f}",
        )
    return table


def summary_line(report: Report) -> str:
    """Return a summary of the episodes: success with its 95 % interval, call accuracy, and the reward per episode."""
    reward = "reward missing" if report.reward is None else f"reward {report.reward:+.3f}"
    masked = f", {report.masked} cut off by a fault" if report.masked else ""
    success = f"success {report.success:.1%} ({report.success_low:.0%} to {report.success_high:.0%})"
    return f"{counted(report.episodes, 'episode')}: {success}, call accuracy {report.call_accuracy:.1%}, {reward}{masked}"


# ---------------------------------------------------------------- a whole episode
def episode_view(index: int, trajectory: Trajectory, *, full: bool = False) -> Group:
    """Return a whole episode, step by step; long texts are shortened in the middle unless ``full``."""
    task, cut = trajectory.task, (lambda text: text) if full else shortened
    steps = Table.grid(padding=(0, 1))
    steps.add_column(style="dim", justify="right")
    steps.add_column()
    total = 0.0
    for step in trajectory.steps:
        total += step.reward
        result, action = step.transition.result, step.generation.action
        call = Text(printable(cut(call_text(step))), style="yellow" if isinstance(action, Malformed) else "cyan")
        if isinstance(action, Malformed):
            call.append("  [no call]", style="bold yellow")
        answer = Text(printable(cut(result.content)), style="red" if result.error else "")
        if result.error:
            answer = Text.assemble((f"{kind_of_error(result.error)}: ", "bold red"), answer)
        changed = [Text(printable(cut(note)), style="yellow") for note in executed(step)]
        earnings = Text(printable(step_earned(step, total, trajectory)), style="dim")
        steps.add_row(str(step.transition.step), Group(call, *changed, answer, earnings, Text()))
    about = Text(f"{index}  {printable(', '.join([task.id, *labels(trajectory)]))}", style="dim")
    return Group(about, Text(printable(cut(task.instruction)), style="bold"), Text(), steps, _conclusion(trajectory))


def _conclusion(trajectory: Trajectory) -> Text:
    return Text(conclusion(trajectory), style="bold green" if trajectory.success >= 1.0 else "bold red")


def _color(success: float) -> str:
    return "green" if success >= 1.0 else "yellow" if success > 0.0 else "red"
