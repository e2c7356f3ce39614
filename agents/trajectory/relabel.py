"""New rewards for finished episodes, without an environment or a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steptool_env.rewards.base import Past, RewardShaper, knows_later, label
from steptool_env.types import Transition, whose

from .types import Step, Trajectory

__all__ = ["in_hindsight", "relabel", "relabel_all"]


def relabel(trajectory: Trajectory, shaper: RewardShaper) -> Trajectory:
    """Return the same episode with the rewards of another shaper; no environment or rollout is needed.

    An online shaper is called step by step, as the environment calls it; a hindsight shaper gets the whole episode, with the length of
    every action (``Transition.tokens``). Steps at which a tool was unavailable, and steps for which the shaper gives no reward, are masked:
    they get the same part names with the value 0.0. All other steps are unmasked, even if they were masked before, for example because a
    judge could not be reached. Trajectories from files lack ``task.data``; a shaper that reads it needs the trajectory from memory.

    Raises:
        InvalidArgument: The shaper returned something other than a mapping from names to finite numbers.
    """
    return relabel_all([trajectory], shaper)[0]


def relabel_all(trajectories: Sequence[Trajectory], shaper: RewardShaper) -> list[Trajectory]:
    """Relabel many trajectories; a judge or a simulation gets the requests for all of them in one batch."""
    counted = knows_later(shaper)  # a shaper that knows all at the step must see what the environment shows it
    episodes = [[_with_length(step) if counted else step.transition for step in trajectory.steps] for trajectory in trajectories]
    relabeled = []
    for trajectory, transitions, labels in zip(trajectories, episodes, label(shaper, episodes), strict=True):
        example = next((parts for parts in labels if parts is not None), None)
        names = list(shaper(Past(transitions)) if example is None else example)
        steps = []
        for step, parts in zip(trajectory.steps, labels, strict=True):
            masked = whose(step.transition.result.error) == "infrastructure" or parts is None
            steps.append(replace(step, parts=dict.fromkeys(names, 0.0) if parts is None or masked else parts, masked=masked))
        relabeled.append(replace(trajectory, steps=tuple(steps)))
    return relabeled


def _with_length(step: Step) -> Transition:
    """Return the transition with the number of tokens that the policy wrote for it."""
    return step.transition._replace(tokens=len(step.generation.token_ids) or None)


def in_hindsight(trajectories: Sequence[Trajectory], shaper: RewardShaper) -> list[Trajectory]:
    """Relabel trajectories if their shaper uses hindsight; otherwise return them unchanged."""
    return relabel_all(trajectories, shaper) if knows_later(shaper) else list(trajectories)
