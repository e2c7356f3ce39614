"""``WithTools``: any suite with its toolkits wrapped: recorded, slower, failing. ``Faulty`` is the one whose calls fail now and then."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from steptool_env.errors import InvalidArgument
from steptool_env.tasks.base import Episode, TaskSuite
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.tools.toolkit import Toolkit
from steptool_env.tools.wrapped import WrappedToolkit
from steptool_env.types import Outcome, Task, ToolCall

__all__ = ["Faulty", "WithTools"]


class WithTools(TaskSuite):
    """A suite whose tools are called through a wrapper; tasks, verdicts and solutions stay its own, and so does what it can do.

    Args:
        suite: The suite.
        wrap: From the task and its fresh toolkit to the ``WrappedToolkit`` that the episode gets, such as
            ``lambda task, toolkit: FaultyToolkit(toolkit, rate=0.3, seed=task.id)``.
    """

    has_turns: bool = False  # whatever the suite says, see below

    def __init__(self, suite: TaskSuite, wrap: Callable[[Task, Toolkit], WrappedToolkit]) -> None:
        self.inner, self.wrap = suite, wrap
        self.name = suite.name
        self.has_solution, self.has_progress = suite.has_solution, suite.has_progress
        self.can_snapshot, self.has_turns = suite.can_snapshot, suite.has_turns

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Task:
        return self.inner[index]

    def index(self, task_id: str) -> int:
        return self.inner.index(task_id)

    def about(self) -> str:
        return self.inner.about()

    def toolkit(self, task: Task) -> Toolkit:
        made = self.inner.toolkit(task)
        outer = self.wrap(task, made)
        outer.made = made
        return outer

    def grade(self, task: Task, episode: Episode) -> Outcome:
        return self.inner.grade(task, _unwrapped(episode))

    def after_finish(self, task: Task, episode: Episode) -> str | None:
        return self.inner.after_finish(task, _unwrapped(episode))

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return self.inner.solution(task, _unwrapped(episode))

    def progress(self, task: Task, episode: Episode) -> float:
        return self.inner.progress(task, _unwrapped(episode))


class Faulty(WithTools):
    """A suite whose tools fail now and then: the call is not executed, and the agent reads that it may try again.

    Which calls fail depends on the seed, the task, the call and how often it was made, not on what else runs; see ``FaultyToolkit``.

    Args:
        suite: Any suite.
        rate: Share of calls that fail, in [0, 1]; two numbers: each task draws its own between them. ``finish`` never fails.
        seed: The same seed fails the same calls.
        options: Further keywords of ``FaultyToolkit``: ``lasting``, ``stale``, ``error``, ``latency``.
    """

    def __init__(self, suite: TaskSuite, rate: float | Sequence[float], seed: int = 0, **options: Any) -> None:
        low, high = rate if isinstance(rate, Sequence) else (rate, rate)
        for share in (low, high):
            FaultyToolkit.check(share, *(options.get(name, 0.0) for name in ("latency", "lasting", "stale")))
        if low > high:
            raise InvalidArgument(f"rate must be a share or two in ascending order, got {rate!r}")
        super().__init__(suite, self._failing)
        self.low, self.high, self.seed, self.options = low, high, seed, options

    def about(self) -> str:
        shares = f"{100 * self.low:g}" if self.low == self.high else f"{100 * self.low:g} to {100 * self.high:g}"
        rest = [f"{name} {value}" for name, value in self.options.items()]
        return ", ".join(filter(None, [self.inner.about(), f"{shares} % of calls fail", *rest]))

    def _failing(self, task: Task, toolkit: Toolkit) -> FaultyToolkit:
        rate = self.low if self.low == self.high else random.Random(f"{self.seed}/{task.id}").uniform(self.low, self.high)
        return FaultyToolkit(toolkit, rate=rate, seed=f"{self.seed}/{task.id}", **self.options)


def _unwrapped(episode: Episode) -> Episode:
    """Return the episode as the suite within knows it: with the toolkit that it made."""
    outer = episode.toolkit
    assert isinstance(outer, WrappedToolkit)
    inner = Episode(episode.task, outer.made, episode.transitions)
    inner.messages, inner.memory = episode.messages, episode.memory
    return inner
