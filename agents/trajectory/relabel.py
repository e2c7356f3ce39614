"""New rewards for finished episodes, without an environment and without a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steptool_env.rewards.base import Past, RewardShaper, knows_later, label

from .types import Trajectory

__all__ = ["in_hindsight", "relabel", "relabel_all"]


def relabel(trajectory: Trajectory, shaper: RewardShaper) -> Trajectory:
    """Return the same episode with the rewards of another shaper; needs no environment and no rollout.

    A shaper that knows all at the step is asked as the environment would have asked it; one that knows more in hindsight
    sees the whole episode. Steps at which a tool was unavailable, and steps whose reward the shaper says is missing, are
    masked: they get the same part names with the value 0.0. Whatever masked the other steps before, such as a judge that
    could not be reached, masks them no longer. A trajectory from a file lacks ``task.data``, so that a shaper that reads
    it needs the trajectory from memory.

    Raises:
        InvalidArgument: The shaper returned something else than a mapping of names to finite numbers.
    """
    return relabel_all([trajectory], shaper)[0]


def relabel_all(trajectories: Sequence[Trajectory], shaper: RewardShaper) -> list[Trajectory]:
    """Relabel many trajectories: what a judge or a simulation has to be asked, it is asked for all of them together."""
    episodes = [[step.transition for step in trajectory.steps] for trajectory in trajectories]
    done = []
    for trajectory, transitions, labels in zip(trajectories, episodes, label(shaper, episodes), strict=True):
        known = next((parts for parts in labels if parts is not None), None)
        names = list(shaper(Past(transitions)) if known is None else known)
        steps = []
        for step, parts in zip(trajectory.steps, labels, strict=True):
            masked = step.transition.result.error == "unavailable" or parts is None
            steps.append(replace(step, parts=dict.fromkeys(names, 0.0) if parts is None or masked else parts, masked=masked))
        done.append(replace(trajectory, steps=tuple(steps)))
    return done


def in_hindsight(trajectories: Sequence[Trajectory], shaper: RewardShaper) -> list[Trajectory]:
    """Relabel trajectories if the shaper that paid for their steps knows more now; otherwise return them as they are."""
    return relabel_all(trajectories, shaper) if knows_later(shaper) else list(trajectories)
