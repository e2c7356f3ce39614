"""Episodes made by hand, for tests of what is measured of them."""

from __future__ import annotations

from steptool_agents.trajectory import Generation, Step, Trajectory
from steptool_env.types import Outcome, Task, ToolCall, ToolResult, Transition

__all__ = ["episode"]


def episode(task: Task, *steps: tuple[str, float, float], solved: float = 0.0, truncated: bool = False) -> Trajectory:
    """Return an episode from (error, progress before, progress after) of each call."""
    made = []
    for t, (error, before, after) in enumerate(steps):
        last = t == len(steps) - 1
        call = ToolCall("finish" if last and not truncated else "look")
        ends = (last and not truncated, last and truncated, Outcome(solved) if last else None)
        made.append(Step(Generation("", call), Transition(task, t, call, ToolResult("", error), *ends, after, before), {"r": 0.25}, error == "unavailable"))
    return Trajectory(tuple(made))
