"""What a grid of runs has stored, read and verified; what is computed from it; and the files that are written beside it."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env.errors import CheckpointError, InvalidArgument
from steptool_env.sealed import is_sealed, read_sealed, verified

from ..rollouts.evaluate import contributed, counts
from ..trajectory import Trajectory, read_jsonl

__all__ = ["check_own", "markdown", "read_episodes", "read_numbers", "useful", "verdicts", "with_interval"]

_WAY_OUT = "delete it, and the grid makes it again"


def read_numbers(path: Path, *numbers: str) -> dict[str, Any]:
    """Return a file of the grid, verified, with these numbers in it."""
    record = read_sealed(path, _WAY_OUT)
    for name in numbers:
        if type(record.get(name)) not in (int, float) or not abs(record[name]) < 1e18:
            raise CheckpointError(f"{path} cannot be read: {name!r} must be a number, got {reprlib.repr(record.get(name))}; {_WAY_OUT}")
    return record


def read_episodes(path: Path) -> list[Trajectory]:
    """Return a file of episodes of the grid, verified; at least one."""
    verified(path, _WAY_OUT)
    episodes = read_jsonl(path)
    if not episodes:
        raise CheckpointError(f"{path} has no episode: it is empty; {_WAY_OUT}")
    return episodes


def verdicts(episodes: Sequence[Sequence[Trajectory]], depths: Sequence[int] | None = None) -> np.ndarray:
    """(seeds, tasks) the verdicts; with ``depths``, only of tasks of these depths."""
    return np.array([[trajectory.success for trajectory in trajectories if _has_depth(trajectory, depths)] for trajectories in episodes])


def useful(episodes: Sequence[Sequence[Trajectory]], depths: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, tasks) each: the calls that contributed, and all that count; with ``depths``, only of tasks of these depths."""
    pairs = [
        [
            (sum(contributed(step.transition) for step in trajectory.steps), sum(counts(step.transition) for step in trajectory.steps))
            for trajectory in trajectories
            if _has_depth(trajectory, depths)
        ]
        for trajectories in episodes
    ]
    return np.array(pairs)[:, :, 0], np.array(pairs)[:, :, 1]


def _has_depth(trajectory: Trajectory, depths: Sequence[int] | None) -> bool:
    return depths is None or trajectory.task.tags.get("depth") in depths


def check_own(out: Path, names: Iterable[str]) -> None:
    """Raise ``InvalidArgument`` if one of the files that a command writes is there, and is not what it has written."""
    for name in names:
        if (out / name).is_file() and not is_sealed(out / name):
            raise InvalidArgument(f"{out / name} is not what this command wrote, and would be overwritten: move it away, or use --force to replace it")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def with_interval(row: Any, *names: str, signed: bool = False) -> str:
    """Return a mean and its interval in per cent: ``"84.5 (78 to 90)"``; ``names`` are those of the mean and of both ends."""
    mean, low, high = (100 * row[name] for name in names)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" if signed else f"{mean:.1f} ({low:.0f} to {high:.0f})"
