"""``WithTools``: any suite with its toolkits wrapped: recorded, slower, failing."""

from __future__ import annotations

from collections.abc import Callable

from steptool_env.tasks.base import Episode, TaskSuite
from steptool_env.tools.toolkit import Toolkit
from steptool_env.tools.wrapped import WrappedToolkit
from steptool_env.types import Outcome, Task, ToolCall

__all__ = ["WithTools"]


class WithTools(TaskSuite):
    """A suite whose tools are called through a wrapper; tasks, verdicts and solutions stay its own.

    Args:
        suite: The suite.
        wrap: From the task and its fresh toolkit to the ``WrappedToolkit`` that the episode gets, such as
            ``lambda task, toolkit: FaultyToolkit(toolkit, rate=0.3, seed=task.id)``.
    """

    def __init__(self, suite: TaskSuite, wrap: Callable[[Task, Toolkit], WrappedToolkit]) -> None:
        self.inner, self.wrap = suite, wrap
        vars(self).update(name=suite.name, has_solution=suite.has_solution, has_progress=suite.has_progress, can_snapshot=suite.can_snapshot)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Task:
        return self.inner[index]

    def index(self, task_id: str) -> int:
        return self.inner.index(task_id)

    def toolkit(self, task: Task) -> Toolkit:
        made = self.inner.toolkit(task)
        outer = self.wrap(task, made)
        vars(outer)["made_by_suite"] = made
        return outer

    def grade(self, task: Task, episode: Episode) -> Outcome:
        return self.inner.grade(task, _unwrapped(episode))

    def after_finish(self, task: Task, episode: Episode) -> str | None:
        return self.inner.after_finish(task, _unwrapped(episode))

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return self.inner.solution(task, _unwrapped(episode))

    def progress(self, task: Task, episode: Episode) -> float:
        return self.inner.progress(task, _unwrapped(episode))


def _unwrapped(episode: Episode) -> Episode:
    """Return the episode as the suite within knows it: with the toolkit that it made."""
    view = Episode(episode.task, vars(episode.toolkit)["made_by_suite"], episode.transitions)
    view.messages, view.memory = episode.messages, episode.memory
    return view
