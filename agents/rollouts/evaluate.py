"""Evaluation: play held-out tasks and measure success with intervals. Denominators are always all tasks played."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from steptool_env.env import StepToolEnv
from steptool_env.errors import InvalidArgument
from steptool_env.rewards import RewardShaper, frozen, make_shaper
from steptool_env.tasks import TaskSuite
from steptool_env.types import ERRORS, PARTIES, ToolCall, Transition, whose

from ..policies.base import Policy
from ..trajectory import Trajectory, in_hindsight
from .collect import rollout
from .statistics import bootstrap, pass_all, pass_any

__all__ = ["Report", "contributed", "counts", "evaluate", "held_out", "measure", "oracle_calls", "pass_rates", "rollout_tasks", "summarize"]


@dataclass(frozen=True, slots=True)
class Report:
    """Results of an evaluation."""

    episodes: int
    """Tasks played, one episode each."""
    success: float
    """Mean success over all episodes, 0 to 1."""
    success_low: float
    """Lower end of the 95 % bootstrap interval."""
    success_high: float
    """Its upper end."""
    call_success: float
    """Share of calls without a mistake of the model's; of all calls but those that failed by somebody else's fault (``counts``)."""
    call_accuracy: float
    """Share of calls that contributed: raised the progress, or were a ``finish`` that solved the task; of the same calls."""
    steps: float
    """Calls per episode."""
    reward: float | None
    """Sum of rewards per episode, under the environment's shaper, over the episodes that have one; None if all are missing."""
    unfinished: float
    """Share of episodes that ran out of their step budget."""
    masked: int
    """Episodes cut off by an infrastructure fault; they count as not solved."""
    by_tag: dict[str, dict[str, float]]
    """``"depth=3"`` -> ``{"episodes": …, "success": …}`` for every tag of the tasks."""
    recall: float | None = None
    """Share of the tools of the suite's solution that were called, per task, ``finish`` left out; None without a solution."""
    steps_over_oracle: float | None = None
    """Calls made per call of the suite's solution, the mean over all tasks, solved or not; None without a solution."""
    hallucinated: float = 0.0
    """Share of calls of tools that do not exist."""
    repeated: float = 0.0
    """Share of calls that repeat an earlier call of the same episode, with the same arguments, that had no error."""
    faults: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTIES, 0.0))
    """Whose fault (``steptool_env.whose``) -> share of all calls that failed by it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def evaluate(
    policy: Policy,
    suite: TaskSuite,
    tasks: Sequence[int],
    *,
    shaper: str | RewardShaper = "steptool",
    max_steps: int | None = None,
    width: int = 64,
    on_done: Callable[[Trajectory], None] | None = None,
) -> tuple[Report, list[Trajectory]]:
    """Play one episode of each task and measure them, against the suite's solutions if it has some; arguments as for ``rollout_tasks``."""
    trajectories = rollout_tasks(policy, suite, tasks, shaper=shaper, max_steps=max_steps, width=width, on_done=on_done)
    return summarize(trajectories, oracle_calls(suite, tasks)), trajectories


def rollout_tasks(
    policy: Policy,
    suite: TaskSuite,
    tasks: Sequence[int],
    *,
    shaper: str | RewardShaper = "steptool",
    max_steps: int | None = None,
    width: int = 64,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play one episode of each task and return them in order, with the rewards that are known in hindsight.

    Args:
        policy: Chooses the actions.
        suite: Source of the tasks.
        tasks: Indices into the suite.
        shaper: Only for the reward that is reported, its hindsight part included; its running statistics are not updated.
        max_steps: Overrides the tasks' step budgets.
        width: Number of episodes in parallel.
        on_done: Called with each trajectory as it ends.
    """
    made = make_shaper(shaper)
    envs = [StepToolEnv(suite, made, max_steps=max_steps) for _ in range(min(width, len(tasks)))]
    with frozen(made):
        trajectories = rollout(policy, envs, tasks, on_done=on_done)
        if envs:
            trajectories = in_hindsight(trajectories, envs[0].shaper)
    return trajectories


def held_out(suite: TaskSuite, episodes: int) -> list[int]:
    """Return the indices of the tasks that an evaluation plays: spread evenly over the suite, the same for every method; each of them once.

    A suite with fewer tasks gives fewer: to play one twice would tell nothing new of a policy that is greedy, and narrow the interval all the same.
    """
    count = min(episodes, len(suite))
    return [index * len(suite) // count for index in range(count)]


def summarize(trajectories: Sequence[Trajectory], oracle: Mapping[str, Sequence[str]] | None = None) -> Report:
    """Measure trajectories.

    Args:
        trajectories: At least one.
        oracle: Task id -> tools that its solution calls, see ``oracle_calls``; tasks that it lacks are left out of the recall.
    """
    success = np.array([trajectory.success for trajectory in trajectories])
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    blamed = Counter(whose(step.transition.result.error) for step in steps)
    own = max(1, sum(counts(step.transition) for step in steps))
    useful = sum(contributed(step.transition) for step in steps)
    interval = bootstrap(success)
    recalls, overheads = _compare_with_oracle(trajectories, oracle or {})
    groups: dict[str, list[float]] = {}
    for trajectory in trajectories:
        for tag, value in trajectory.task.tags.items():
            groups.setdefault(f"{tag}={value}", []).append(trajectory.success)
    rewards = [sum(trajectory.rewards) for trajectory in trajectories if not trajectory.masked.all()]  # a missing reward is not 0
    return Report(
        episodes=len(trajectories),
        success=float(success.mean()),
        success_low=interval.low,
        success_high=interval.high,
        call_success=(own - blamed["model"]) / own,
        call_accuracy=useful / own,
        steps=len(steps) / len(trajectories),
        reward=float(np.mean(rewards)) if rewards else None,
        unfinished=float(np.mean([trajectory.truncated and not trajectory.steps[-1].masked for trajectory in trajectories])),
        masked=sum(trajectory.steps[-1].masked for trajectory in trajectories),
        by_tag={tag: {"episodes": len(values), "success": float(np.mean(values))} for tag, values in sorted(groups.items())},
        recall=float(np.mean(recalls)) if recalls else None,
        steps_over_oracle=float(np.mean(overheads)) if overheads else None,
        hallucinated=float(np.mean([step.transition.result.error == "unknown_tool" for step in steps])),
        repeated=sum(map(_repeats, trajectories)) / len(steps),
        faults={party: blamed[party] / len(steps) for party in PARTIES},
    )


def _compare_with_oracle(trajectories: Sequence[Trajectory], oracle: Mapping[str, Sequence[str]]) -> tuple[list[float], list[float]]:
    """Return recall and calls per oracle call of every trajectory whose solution is known."""
    recalls, overheads = [], []
    for trajectory in trajectories:
        if calls := oracle.get(trajectory.task.id):
            wanted = set(calls) - {"finish"}
            called = {step.transition.action.name for step in trajectory.steps if isinstance(step.transition.action, ToolCall)}
            recalls.append(len(wanted & called) / len(wanted) if wanted else 1.0)
            overheads.append(len(trajectory.steps) / len(calls))
    return recalls, overheads


def _repeats(trajectory: Trajectory) -> int:
    seen: set[str] = set()
    count = 0
    for step in trajectory.steps:
        action = step.transition.action
        if isinstance(action, ToolCall):
            call = json.dumps(action.as_dict(), sort_keys=True, default=repr)
            count += call in seen
            if not step.transition.result.error:
                seen.add(call)
    return count


def measure(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Return the numbers that a training run logs about the episodes of an update, the parts of the reward included."""
    report = summarize(trajectories)
    parts: dict[str, float] = {}
    rewarded = sum(not trajectory.masked.all() for trajectory in trajectories)
    for trajectory in trajectories:
        for step in trajectory.steps:
            for name, value in step.parts.items():
                parts[f"reward/{name}"] = parts.get(f"reward/{name}", 0.0) + value / max(rewarded, 1)
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    tokens = sum(len(step.generation.token_ids) for step in steps)
    failed = Counter(step.transition.result.error for step in steps)
    return {
        "success": report.success,
        "reward": float("nan") if report.reward is None else report.reward,
        **parts,
        "call_success": report.call_success,
        "call_accuracy": report.call_accuracy,
        "steps": report.steps,
        "masked": report.masked,
        **{f"errors/{kind}": failed[kind] / len(steps) for kind in ERRORS[1:]},
        "action_tokens": tokens,
        "action_length": tokens / len(steps),
    }


def oracle_calls(suite: TaskSuite, tasks: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Return task id -> the tools that the suite's own solution calls, in order, ``finish`` included; empty for suites without solutions."""
    if not suite.has_solution:
        return {}
    env, calls = StepToolEnv(suite, "final"), {}
    for index in set(tasks):
        env.reset(options={"task": index})
        calls[env.task.id] = tuple(call.name for call in env.solution())
    return calls


def pass_rates(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, float]]:
    """Return ``{"pass@k": {"1": …, "2": …}, "pass^k": …}`` over tasks that were played several times, the same number each.

    Raises:
        InvalidArgument: The tasks were played different numbers of times.
    """
    solved: dict[str, list[bool]] = {}
    for trajectory in trajectories:
        solved.setdefault(trajectory.task.id, []).append(trajectory.success >= 1.0)
    plays = {len(outcomes) for outcomes in solved.values()}
    if len(plays) != 1:
        raise InvalidArgument(f"every task must be played the same number of times, got {sorted(plays)}")
    (n,) = plays
    rates = {"pass@k": pass_any, "pass^k": pass_all}
    counts = [sum(outcomes) for outcomes in solved.values()]
    return {name: {str(k): float(np.mean([rate(n, count, k) for count in counts])) for k in range(1, n + 1)} for name, rate in rates.items()}


def counts(transition: Transition) -> bool:
    """Return whether a call says something about the model: one that failed by somebody else's fault says nothing."""
    return whose(transition.result.error) in ("", "model")


def contributed(transition: Transition) -> bool:
    """Return whether a call did something for the task: it raised the progress, or was a ``finish`` that solved the task."""
    if transition.outcome is not None and transition.terminated:
        return bool(transition.outcome.solved >= 1.0)
    return bool(transition.progress > transition.progress_before)
