"""A suite of a few lines, for tests of everything that takes a suite: count to a number, then say it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from steptool_env import FINISH, Episode, Outcome, Task, TaskSuite, Tool, ToolCall, Toolkit, tool
from steptool_env.errors import Unavailable


@dataclass
class Counter:
    """What the tools act on; its generator lets a test see that snapshots hold generators, too."""

    value: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    turn: int = 0


@tool(timeout=None)
def add(state: Counter, amount: int) -> str:
    """Add to the counter.

    Args:
        amount: How much.
    """
    state.value += amount
    return f"The counter shows {state.value}."


@tool(timeout=None)
def roll(state: Counter) -> int:
    """Roll a die."""
    return state.rng.randint(1, 6)


@tool(timeout=None)
def fail() -> str:
    """Fail, whatever happens."""
    raise RuntimeError("boom")


@tool(timeout=None)
def phone() -> str:
    """Call a server that is down."""
    raise Unavailable("no answer")


@tool(timeout=None)
def reset_counter(state: Counter) -> str:
    """Set the counter to zero. On offer in the second turn only."""
    state.value = 0
    return "The counter shows 0."


class Counting(TaskSuite):
    """Count to 3, 4, 5 …, then ``finish`` with the number. With ``turns=2`` the user wants one more, and offers another tool."""

    name: str = "counting"
    has_solution: bool = True
    has_progress: bool = True
    has_turns: bool = False

    def __init__(self, size: int = 10, max_steps: int = 20, turns: int = 1) -> None:
        self.has_turns = turns > 1
        self.size, self.max_steps, self.turns = size, max_steps, turns
        self.tools: list[Tool] = [add, roll, fail, phone, FINISH]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < self.size:
            raise IndexError(index)
        target = index + 3
        return Task(f"count-{target}", f"Count to {target}.", tuple(one.name for one in self.tools), self.max_steps, target)

    def toolkit(self, task: Task) -> Toolkit:
        return Toolkit(self.tools, Counter())

    def after_finish(self, task: Task, episode: Episode) -> str | None:
        counter = episode.toolkit.state
        counter.turn += 1
        return f"And now to {task.data + 1}." if counter.turn < self.turns else None

    def grade(self, task: Task, episode: Episode) -> Outcome:
        last = episode[-1].action
        goal = task.data + self.turns - 1
        solved = isinstance(last, ToolCall) and last.name == "finish" and last.arguments.get("answer") == str(goal) and episode.toolkit.state.value == goal
        return Outcome(float(solved))

    def progress(self, task: Task, episode: Episode) -> float:
        goal = task.data + self.turns - 1
        return max(0.0, 1.0 - abs(goal - episode.toolkit.state.value) / goal)

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        counter = episode.toolkit.state
        goal = task.data + self.turns - 1
        step = (goal > counter.value) - (goal < counter.value)
        calls = [ToolCall("add", {"amount": step})] * abs(goal - counter.value)
        return calls + [ToolCall("finish", {"answer": str(goal)})] * (self.turns - counter.turn)
