"""What a grid of runs has stored, read and verified; what tables need of it; and the files that are written beside it."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from steptool_env.errors import CheckpointError, InvalidArgument
from steptool_env.sealed import is_sealed, read_sealed, verified
from steptool_env.types import whose

from ..credit.episodes import Bools, Floats, Integers
from ..rollouts.evaluate import contributed, counts
from ..trajectory import Trajectory, read_jsonl

__all__ = ["Played", "Seeds", "check_own", "markdown", "read_episodes", "read_numbers", "together", "useful", "verdicts", "with_interval"]

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


@dataclass(frozen=True)
class Played:
    """What tables need of the episodes of one seed, one entry per task. The episodes of a whole table would not fit into memory."""

    tasks: tuple[str, ...]
    """Ids and instructions; only the same tasks can be paired."""
    success: Floats
    depth: Integers
    """Calls of the solution; -1 where the suite does not say."""
    useful: Floats
    """Calls that contributed."""
    counted: Floats
    """Calls that count: all but those that failed by somebody else's fault."""
    failed: Integers
    """Calls that failed by the environment's fault."""
    wrong: Bools
    """Whether the episode ended with a wrong answer, instead of giving up or being cut off."""
    cut_off: Bools
    """Whether the episode ended unsolved when its budget of calls was used up."""

    @classmethod
    def of(cls, episodes: Sequence[Trajectory]) -> Played:
        """Return what is needed of these episodes."""
        return cls(
            tasks=tuple(f"{episode.task.id}: {episode.task.instruction}" for episode in episodes),
            success=np.array([episode.success for episode in episodes], dtype=np.float64),
            depth=np.array([depth if isinstance(depth := episode.task.tags.get("depth"), int) else -1 for episode in episodes]),
            useful=np.array([sum(contributed(step.transition) for step in episode.steps) for episode in episodes], dtype=np.float64),
            counted=np.array([sum(counts(step.transition) for step in episode.steps) for episode in episodes], dtype=np.float64),
            failed=np.array([sum(whose(step.transition.result.error) == "environment" for step in episode.steps) for episode in episodes]),
            wrong=np.array([episode.success < 1.0 and episode.terminated and not _gave_up(episode) for episode in episodes]),
            cut_off=np.array([episode.success < 1.0 and not episode.terminated for episode in episodes]),
        )

    def only(self, tasks: Collection[str]) -> Played:
        """Return the same for these tasks only."""
        kept = np.isin(self.tasks, list(tasks))
        arrays = {one.name: getattr(self, one.name)[kept] for one in fields(self) if one.name != "tasks"}
        return Played(tuple(task for task, keep in zip(self.tasks, kept, strict=True) if keep), **arrays)

    def at(self, depths: Iterable[int] | None) -> Bools:
        """(tasks,) which tasks are of these depths; all if None."""
        return np.ones(len(self.tasks), dtype=np.bool_) if depths is None else np.isin(self.depth, list(depths))


Seeds = Mapping[int, Played]
"""Seed -> what it played: an evaluation of a method."""


def together(*methods: Seeds) -> list[list[Played]] | None:
    """Return what each method played with the seeds that all of them have, in the same order; None if they share none, or played other tasks."""
    shared = [seed for seed in methods[0] if all(seed in other for other in methods)]
    found = [[seeds[seed] for seed in shared] for seeds in methods]
    return found if shared and len({played.tasks for seeds in found for played in seeds}) == 1 else None


def verdicts(seeds: Sequence[Played], depths: Iterable[int] | None = None) -> Floats:
    """(seeds, tasks) the verdicts; with ``depths``, only of tasks of these depths."""
    return np.array([played.success[played.at(depths)] for played in seeds])


def useful(seeds: Sequence[Played], depths: Iterable[int] | None = None) -> tuple[Floats, Floats]:
    """(seeds, tasks) each: the calls that contributed, and all that count; with ``depths``, only of tasks of these depths."""
    return np.array([played.useful[played.at(depths)] for played in seeds]), np.array([played.counted[played.at(depths)] for played in seeds])


def _gave_up(episode: Trajectory) -> bool:
    call = episode.steps[-1].transition.action
    return bool(getattr(call, "arguments", {}).get("give_up"))


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
