"""From trajectories to credited trajectories: the schemes of ``credit/`` applied to the episodes of a rollout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steptool_env.types import Transition

from ..credit.episodes import Episodes, Floats
from ..credit.loading import credited, scaling_of
from ..credit.schemes import normalize, step
from ..trajectory import Trajectory

__all__ = ["Credited", "as_episodes", "assign_credit", "scale_negative", "states"]


@dataclass(frozen=True, slots=True)
class Credited:
    """Trajectories with an advantage and a return for every step."""

    trajectories: list[Trajectory]
    advantages: list[Floats]
    """Per trajectory (T,), one per step; or (N,), one per action token, with ``per_token``."""
    returns: list[Floats]
    """Per trajectory (T,): the targets of the value head."""
    per_token: bool = False

    def token_advantages(self, index: int) -> Floats:
        """Return the advantages (N,) of a trajectory's action tokens: with ``per_token`` their own, else that of their step.

        Each is multiplied by the token's importance weight, if it has one: the clipped objective is linear in the advantage
        where that is not negative, so this weights the token's loss.
        """
        generations = [step.generation for step in self.trajectories[index].steps]
        advantages = self.advantages[index] if self.per_token else np.repeat(self.advantages[index], [one.sampled for one in generations])
        if any(one.importance for one in generations):
            weights = [np.delete(one.importance or np.ones(len(one.token_ids)), slice(*one.forced)) for one in generations]
            advantages = advantages * np.concatenate(weights)
        return advantages


def scale_negative(advantages: Floats, negative: float) -> Floats:
    """Return the advantages (N,), with the negative ones multiplied by ``negative``, in [0, 1].

    A bad action only teaches a policy to do anything else, nonsense included; a good one teaches what to do.
    Source of the asymmetry: Arnal et al., "Asymmetric REINFORCE for off-Policy Reinforcement Learning" (arXiv 2506.20520), which
    lowers the baseline to the same end.

    >>> scale_negative(np.array([-2.0, 0.0, 2.0]), 0.25).tolist()
    [-0.5, 0.0, 2.0]
    """
    return np.where(advantages < 0.0, negative * advantages, advantages)


def assign_credit(trajectories: Sequence[Trajectory], gamma: float, lam: float, credit: str = "step", negative: float = 1.0) -> Credited:
    """Estimate the advantages of trajectories with a scheme of ``CREDIT`` or your own, and scale them over the batch as ``SCALING`` says.

    Negative advantages are then multiplied by ``negative``, see ``scale_negative``.

    The step budget is part of the task, so a truncated episode ends like any other, with no bootstrap value. Only an episode that an
    infrastructure fault cut off is bootstrapped, with its last value.

    The critic's targets are those of ``step``, whatever the scheme: schemes differ only in the policy's advantages.

    Args:
        trajectories: The episodes.
        gamma: Discount γ in [0, 1].
        lam: λ of the scheme, in [0, 1].
        credit: A name of ``CREDIT``, or a reference, see ``load_scheme``.
        negative: Weight of negative advantages, in [0, 1].

    Raises:
        UnknownName: There is no such scheme.
        InvalidArgument: Your own scheme cannot be found, or returned something else than advantages.
    """
    episodes = as_episodes(trajectories)
    advantages = credited(credit, episodes, gamma, lam)  # (B, T) or (B, T, K)
    mask = episodes.live if advantages.ndim == 2 else episodes.token_mask
    counted = np.zeros(episodes.live.shape, dtype=np.bool_)
    counted[episodes.live] = [not step.masked for trajectory in trajectories for step in trajectory.steps]
    left_out = ~episodes.valid & ~advantages.reshape(len(advantages), -1).any(axis=1)
    counted[left_out] = False  # by a scheme that compares episodes: no zeros of theirs in the scale of the others
    live = (counted if advantages.ndim == 2 else counted[:, :, None] & mask)[mask]
    flat = advantages[mask]
    scaling = scaling_of(credit)
    scaled = np.where(live, flat, 0.0) if scaling == "none" else normalize(flat, live, center=scaling == "whiten")
    scaled = scale_negative(scaled, negative)
    returns = (step(episodes, gamma, lam) + episodes.values)[episodes.live]
    sizes = episodes.lengths if advantages.ndim == 2 else episodes.tokens.sum(axis=1)
    return Credited(
        list(trajectories),
        np.split(scaled, np.cumsum(sizes)[:-1]),
        np.split(returns, np.cumsum(episodes.lengths)[:-1]),
        per_token=advantages.ndim == 3,
    )


def as_episodes(trajectories: Sequence[Trajectory]) -> Episodes:
    """Return trajectories as padded arrays for credit assignment; those of the same task form a group."""
    task_numbers: dict[str, int] = {}
    state_numbers: dict[str, int] = {}
    return Episodes.of(
        [trajectory.rewards for trajectory in trajectories],
        values=[[step.generation.value for step in trajectory.steps] for trajectory in trajectories],
        bootstrap=[trajectory.steps[-1].generation.value if trajectory.steps[-1].masked else 0.0 for trajectory in trajectories],
        tokens=[[step.generation.sampled for step in trajectory.steps] for trajectory in trajectories],
        gaps=[[len(step.generation.prompt_ids) for step in trajectory.steps] for trajectory in trajectories],
        groups=[task_numbers.setdefault(trajectory.task.id, len(task_numbers)) for trajectory in trajectories],
        states=[[state_numbers.setdefault(state, len(state_numbers)) for state in states(trajectory)] for trajectory in trajectories],
        valid=[not trajectory.masked.any() for trajectory in trajectories],  # a reward that is missing is no 0 to compare others with
        answered=[trajectory.terminated for trajectory in trajectories],
    )


def states(trajectory: Trajectory) -> list[str]:
    """Return a key of the state before each step: the successful calls so far, with their results.

    Two episodes of a task are in the same state if they have learned the same: the order of calls, repetitions and failed calls do not
    count. With the whole transcript as the key, hardly any state would occur twice.
    """
    facts: set[str] = set()
    keys = []
    transitions = [step.transition for step in trajectory.steps]
    for transition in transitions:
        keys.append("\n".join(sorted(facts)))
        if not transition.result.error:
            facts.add(_fact(transition))
    return keys


def _fact(transition: Transition) -> str:
    action: Any = transition.action
    return json.dumps([action.as_dict(), transition.result.content], sort_keys=True, default=repr)
