"""Evaluation: play held-out tasks, and say how well it went with intervals. Denominators are always all tasks played."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from steptool_env.env import StepToolEnv
from steptool_env.rewards import RewardShaper, frozen, make_shaper
from steptool_env.tasks import TaskSuite

from .policy import Policy
from .rollout import rollout
from .trajectory import Trajectory, in_hindsight

__all__ = ["Report", "bootstrap", "evaluate", "held_out", "measure", "summarize"]


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation measured."""

    episodes: int
    success: float
    """Mean verdict over all episodes."""
    success_low: float
    """Lower end of the 95 % bootstrap interval."""
    success_high: float
    call_success: float
    """Share of calls without an error."""
    call_accuracy: float
    """Share of calls that contributed: raised the progress, or were a ``finish`` that solved the task."""
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

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
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
    """Play one episode of each task.

    Args:
        policy: What acts.
        suite: Where the tasks come from.
        tasks: Indices into the suite.
        shaper: Only for the reward that is reported, also the part that is known in hindsight; its running statistics stay as they are.
        max_steps: Overrides the tasks' step budgets.
        width: Episodes played side by side.
        on_done: Called with each trajectory as it ends.
    """
    made = make_shaper(shaper)
    envs = [StepToolEnv(suite, made, max_steps=max_steps) for _ in range(min(width, len(tasks)))]
    with frozen(made):
        trajectories = rollout(policy, envs, tasks, on_done=on_done)
        if envs:
            trajectories = in_hindsight(trajectories, envs[0].shaper)
    return summarize(trajectories), trajectories


def held_out(suite: TaskSuite, episodes: int) -> list[int]:
    """Return the indices of the tasks that an evaluation plays: spread evenly over the suite, the same for every method."""
    return [index * len(suite) // episodes for index in range(episodes)] if episodes <= len(suite) else [index % len(suite) for index in range(episodes)]


def summarize(trajectories: Sequence[Trajectory]) -> Report:
    """Measure trajectories."""
    success = np.array([trajectory.success for trajectory in trajectories])
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    errors = np.array([bool(step.transition.result.error) for step in steps])
    contributed = np.array([_contributed(step.transition) for step in steps])
    low, high = bootstrap(success)
    groups: dict[str, list[float]] = {}
    for trajectory in trajectories:
        for tag, value in trajectory.task.tags.items():
            groups.setdefault(f"{tag}={value}", []).append(trajectory.success)
    rewards = [sum(trajectory.rewards) for trajectory in trajectories if not trajectory.masked.all()]  # a missing reward is no 0
    return Report(
        episodes=len(trajectories),
        success=float(success.mean()),
        success_low=low,
        success_high=high,
        call_success=float(1 - errors.mean()),
        call_accuracy=float(contributed.mean()),
        steps=len(steps) / len(trajectories),
        reward=float(np.mean(rewards)) if rewards else None,
        unfinished=float(np.mean([trajectory.truncated and not trajectory.steps[-1].masked for trajectory in trajectories])),
        masked=sum(trajectory.steps[-1].masked for trajectory in trajectories),
        by_tag={tag: {"episodes": len(values), "success": float(np.mean(values))} for tag, values in sorted(groups.items())},
    )


def measure(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Return what a training run logs about the episodes of an update, the parts of the reward included."""
    report = summarize(trajectories)
    parts: dict[str, float] = {}
    rewarded = sum(not trajectory.masked.all() for trajectory in trajectories)
    for trajectory in trajectories:
        for step in trajectory.steps:
            for name, value in step.parts.items():
                parts[f"reward/{name}"] = parts.get(f"reward/{name}", 0.0) + value / max(rewarded, 1)
    tokens = sum(len(step.generation.token_ids) for trajectory in trajectories for step in trajectory.steps)
    return {
        "success": report.success,
        "reward": float("nan") if report.reward is None else report.reward,
        **parts,
        "call_success": report.call_success,
        "call_accuracy": report.call_accuracy,
        "steps": report.steps,
        "masked": report.masked,
        "action_tokens": tokens,
    }


def bootstrap(values: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the mean.

    Args:
        values: (n,) one number per task.
        resamples: Bootstrap samples.
        seed: The interval is the same for the same values and seed.
    """
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _contributed(transition: Any) -> bool:
    if transition.outcome is not None and transition.terminated:
        return bool(transition.outcome.solved >= 1.0)
    return bool(transition.progress > transition.progress_before)
