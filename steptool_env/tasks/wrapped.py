"""Suites around another suite: ``WithTools`` wraps its toolkits (recorded, slower), ``Faulty`` is the one whose calls fail now and then, and
``BudgetShown`` tells the agent how many calls are left."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from steptool_env.errors import InvalidArgument
from steptool_env.tasks.base import Episode, TaskSuite
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.tools.toolkit import Toolkit
from steptool_env.tools.wrapped import WrappedToolkit
from steptool_env.types import Outcome, Task, ToolCall
from steptool_env.words import counted

__all__ = ["Around", "BudgetShown", "Faulty", "WithTools"]


class Around(TaskSuite):
    """A suite around another one: tasks, tools, verdicts and solutions are those of the other, and so is what it can do.

    Args:
        suite: The suite.
    """

    has_turns: bool = False  # whatever the suite says, see below

    def __init__(self, suite: TaskSuite) -> None:
        self.inner = suite
        self.name = suite.name
        self.has_solution, self.has_progress = suite.has_solution, suite.has_progress
        self.can_snapshot, self.has_turns, self.most_tools = suite.can_snapshot, suite.has_turns, suite.most_tools

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Task:
        return self.inner[index]

    def index(self, task_id: str) -> int:
        return self.inner.index(task_id)

    def about(self) -> str:
        return self.inner.about()

    def toolkit(self, task: Task) -> Toolkit:
        return self.inner.toolkit(task)

    def grade(self, task: Task, episode: Episode) -> Outcome:
        return self.inner.grade(task, self.known(episode))

    def after_finish(self, task: Task, episode: Episode) -> str | None:
        return self.inner.after_finish(task, self.known(episode))

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return self.inner.solution(task, self.known(episode))

    def progress(self, task: Task, episode: Episode) -> float:
        return self.inner.progress(task, self.known(episode))

    def known(self, episode: Episode) -> Episode:
        """Return an episode as the suite within knows it."""
        return episode


class BudgetShown(Around):
    """A suite whose tasks and results say how many calls are left: ``(at most 6 calls)``, then ``(5 calls left)``, ``(4 calls left)`` …

    Args:
        suite: Any suite.
        max_steps: The budget of every task, where the environment has one; None: the task's own.
    """

    def __init__(self, suite: TaskSuite, max_steps: int | None = None) -> None:
        super().__init__(suite)
        self.max_steps = max_steps

    def __getitem__(self, index: int) -> Task:
        task = self.inner[index]
        budget = counted(self.max_steps or task.max_steps, "call")
        return replace(task, instruction=f"{task.instruction}\n(at most {budget})", shows_budget=True)

    def about(self) -> str:
        return ", ".join(filter(None, [self.inner.about(), "the budget of calls is shown"]))


class WithTools(Around):
    """A suite with its toolkits wrapped.

    Args:
        suite: The suite.
        wrap: From the task and its fresh toolkit to the ``WrappedToolkit`` that the episode gets, such as
            ``lambda task, toolkit: FaultyToolkit(toolkit, rate=0.3, seed=task.id)``.
    """

    def __init__(self, suite: TaskSuite, wrap: Callable[[Task, Toolkit], WrappedToolkit]) -> None:
        super().__init__(suite)
        self.wrap = wrap

    def toolkit(self, task: Task) -> Toolkit:
        made = self.inner.toolkit(task)
        outer = self.wrap(task, made)
        outer.made = made
        return outer

    def known(self, episode: Episode) -> Episode:
        """Return the episode with the toolkit that the suite within has made."""
        outer = episode.toolkit
        assert isinstance(outer, WrappedToolkit)
        inner = Episode(episode.task, outer.made, episode.transitions)
        inner.messages, inner.memory = episode.messages, episode.memory
        return inner


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

