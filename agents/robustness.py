"""Evaluation with tools that fail now and then: a thin adapter around any suite."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from steptool_env.errors import InvalidArgument
from steptool_env.tasks import Episode, TaskSuite
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import Toolkit
from steptool_env.types import Outcome, Task, ToolCall, ToolResult

__all__ = ["RATES", "Faulty"]

RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
"""Of the robustness curve."""


class Faulty(TaskSuite):
    """A suite whose tools fail with some probability: the call is not executed, the agent reads that it may try again.

    ``finish`` never fails. Which calls fail depends on the seed, the task and how many calls came before, not on what else runs.

    Args:
        suite: Any suite.
        rate: Share of calls that fail, in [0, 1].
        seed: The same seed fails the same calls.
    """

    name = "faulty"

    def __init__(self, suite: TaskSuite, rate: float, seed: int = 0) -> None:
        if not 0 <= rate <= 1:
            raise InvalidArgument(f"rate must lie in [0, 1], got {rate!r}")
        self.suite, self.rate, self.seed = suite, rate, seed
        self.name = suite.name  # type: ignore[misc]  # of the instance, as what follows
        self.has_solution, self.has_progress, self.can_snapshot = suite.has_solution, suite.has_progress, suite.can_snapshot  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self.suite)

    def __getitem__(self, index: int) -> Task:
        return self.suite[index]

    def index(self, task_id: str) -> int:
        return self.suite.index(task_id)

    def toolkit(self, task: Task) -> Toolkit:
        return _Failing(self.suite.toolkit(task), self.rate, np.random.default_rng([self.seed, zlib.crc32(task.id.encode())]))

    def grade(self, task: Task, episode: Episode) -> Outcome:
        return self.suite.grade(task, episode)

    def after_finish(self, task: Task, episode: Episode) -> str | None:
        return self.suite.after_finish(task, episode)

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return self.suite.solution(task, episode)

    def progress(self, task: Task, episode: Episode) -> float:
        return self.suite.progress(task, episode)


class _Failing(Toolkit):
    def __init__(self, inner: Toolkit, rate: float, rng: np.random.Generator) -> None:
        self.inner, self.rate, self.rng = inner, rate, rng

    def __getitem__(self, name: str) -> Tool:
        return self.inner[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:  # ``state`` and whatever else a suite's own toolkit has
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def schemas(self) -> str:
        return self.inner.schemas

    @property
    def parameters(self) -> Any:
        return self.inner.parameters

    def execute(self, call: ToolCall) -> ToolResult:
        fails = self.rng.random() < self.rate  # drawn for every call, so that one more wrong call does not move the faults to other calls
        if fails and call.name != "finish" and call.name in self.inner:
            return ToolResult(f"Error: {call.name} failed: the service did not answer; try again.", "tool_failed")
        return self.inner.execute(call)

    def snapshot(self) -> Any:
        return self.inner.snapshot(), copy.deepcopy(self.rng.bit_generator.state)

    def restore(self, state: Any) -> None:
        self.inner.restore(state[0])
        self.rng.bit_generator.state = copy.deepcopy(state[1])
