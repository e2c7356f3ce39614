"""From trajectories to credited trajectories: the schemes of ``credit/`` applied to what a rollout brought."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steptool_env.errors import UnknownName
from steptool_env.types import Transition

from ..credit.episodes import Episodes, Floats
from ..credit.schemes import CREDIT, NORMALIZED, normalize, step
from ..trajectory import Trajectory

__all__ = ["Credited", "as_episodes", "assign_credit", "lessened", "states"]


@dataclass(frozen=True, slots=True)
class Credited:
    """Trajectories with an advantage and a return for every step."""

    trajectories: list[Trajectory]
    advantages: list[Floats]
    """Per trajectory (T,), one per step; or (N,), one per action token, with ``per_token``."""
    returns: list[Floats]
    """Per trajectory (T,): the targets of the value head."""
    per_token: bool = False

    def of_tokens(self, index: int) -> Floats:
        """Return the advantages (N,) of the action tokens of a trajectory: each token has that of its step, unless it has one of its own."""
        if self.per_token:
            return self.advantages[index]
        return np.repeat(self.advantages[index], [len(step.generation.token_ids) for step in self.trajectories[index].steps])


def lessened(advantages: Floats, negative: float) -> Floats:
    """Return advantages, the negative ones multiplied by ``negative``, in [0, 1].

    What a policy learns from a bad action is to do anything else, nonsense included; what it learns from a good one is what to do.
    Source of the asymmetry: Arnal et al., "Asymmetric REINFORCE for off-Policy Reinforcement Learning" (arXiv 2506.20520), which
    lowers the baseline to the same end.

    >>> lessened(np.array([-2.0, 0.0, 2.0]), 0.25).tolist()
    [-0.5, 0.0, 2.0]
    """
    return np.where(advantages < 0.0, negative * advantages, advantages)


def assign_credit(trajectories: Sequence[Trajectory], gamma: float, lam: float, credit: str = "step", negative: float = 1.0) -> Credited:
    """Estimate the advantages of trajectories with a scheme of ``CREDIT``, and whiten them over the batch.

    Negative advantages are then multiplied by ``negative``, see ``lessened``.

    The step budget is part of the task, so a truncated episode ends like any other, with no value beyond it; only
    after an infrastructure fault, which says nothing about the state, the last value stands for what was cut off.

    The critic's targets are those of ``step``, whatever the scheme: schemes differ in what the policy learns from.

    Raises:
        UnknownName: There is no such scheme.
    """
    if credit not in CREDIT:
        raise UnknownName("credit scheme", credit, CREDIT)
    episodes = as_episodes(trajectories)
    advantages = CREDIT[credit](episodes, gamma, lam)  # (B, T) or (B, T, K)
    mask = episodes.live if advantages.ndim == 2 else episodes.token_mask
    counted = np.zeros(episodes.live.shape, dtype=np.bool_)
    counted[episodes.live] = [not step.masked for trajectory in trajectories for step in trajectory.steps]
    live = (counted if advantages.ndim == 2 else counted[:, :, None] & mask)[mask]
    flat = advantages[mask]
    white = np.where(live, flat, 0.0) if credit in NORMALIZED else normalize(flat, live)
    white = lessened(white, negative)
    returns = (step(episodes, gamma, lam) + episodes.values)[episodes.live]
    sizes = episodes.lengths if advantages.ndim == 2 else episodes.tokens.sum(axis=1)
    return Credited(
        list(trajectories),
        np.split(white, np.cumsum(sizes)[:-1]),
        np.split(returns, np.cumsum(episodes.lengths)[:-1]),
        per_token=advantages.ndim == 3,
    )


def as_episodes(trajectories: Sequence[Trajectory]) -> Episodes:
    """Return what credit assignment sees of trajectories; those of the same task are a group."""
    tasks: dict[str, int] = {}
    keys: dict[str, int] = {}
    return Episodes.of(
        [trajectory.rewards for trajectory in trajectories],
        values=[[step.generation.value for step in trajectory.steps] for trajectory in trajectories],
        bootstrap=[trajectory.steps[-1].generation.value if trajectory.steps[-1].masked else 0.0 for trajectory in trajectories],
        tokens=[[len(step.generation.token_ids) for step in trajectory.steps] for trajectory in trajectories],
        gaps=[[len(step.generation.prompt_ids) for step in trajectory.steps] for trajectory in trajectories],
        groups=[tasks.setdefault(trajectory.task.id, len(tasks)) for trajectory in trajectories],
        states=[[keys.setdefault(state, len(keys)) for state in states(trajectory)] for trajectory in trajectories],
        known=[not trajectory.steps[-1].masked for trajectory in trajectories],
    )


def states(trajectory: Trajectory) -> list[str]:
    """Return a key of the state in which each step was chosen: what has been called and has come back so far.

    Two episodes of a task are in the same state when they know the same: neither the order of their calls nor repeated or
    failed ones count. Groups of the whole transcript would hardly ever have a second member.
    """
    known: set[str] = set()
    found = []
    for one in trajectory.steps:
        found.append("\n".join(sorted(known)))
        if not one.transition.result.error:
            known.add(_fact(one.transition))
    return found


def _fact(transition: Transition) -> str:
    action: Any = transition.action
    return json.dumps([action.as_dict(), transition.result.content], sort_keys=True, default=repr)
