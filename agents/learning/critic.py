"""Fitting the critic, the value head, to the returns of the newest episodes.

A step's advantage is its return minus the value of its state. If the value does not reflect how hard the task is and how much of
it is done, correct calls in hard tasks are punished and wrong ones in easy tasks rewarded. So the head sees both the state and the
task. After every update it is fitted in many cheap passes, because the policy computes the hidden states only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..credit.episodes import Floats, discounted_sum
from ..models.value_head import ValueHead
from ..parallel import processes
from ..trajectory import Trajectory
from .advantages import Credited, as_episodes
from .losses import masked_mean, value_loss
from .passes import Encoded, Passes

__all__ = ["Features", "explained_by_values", "explained_variance", "fit_value_head", "fit_values", "warm_up_critic"]


@dataclass(frozen=True, slots=True)
class Features:
    """Inputs and targets of the value head for S steps, without gradient."""

    state: Tensor
    """(S, H) hidden states after the context of each step."""
    task: Tensor
    """(S, H) mean hidden states of the first observation."""
    returns: Tensor
    """(S,) targets."""
    weights: Tensor
    """(S,) 0 for steps that are masked or have no tokens, else 1."""

    @classmethod
    def of(cls, encoded: Encoded, returns: Sequence[ArrayLike]) -> Features:
        """Return the features of a micro-batch.

        Args:
            encoded: The micro-batch.
            returns: Per trajectory (T,), one return per step.
        """
        # Detached: a critic that is still wrong must not reshape the features that the policy acts on.
        tensors = encoded.states.detach(), encoded.tasks.detach(), encoded.tensor(returns), encoded.batch.weights
        return cls(*map(processes.portable, tensors))


def fit_value_head(passes: Passes, optimizer: torch.optim.Optimizer, features: Sequence[Features], *, count: int, rng: np.random.Generator) -> dict[str, float]:
    """Fit the value head to an update's features from all processes; return ``value_loss``, its mean loss in the last pass.

    Args:
        passes: Passes of the model.
        optimizer: From ``policy_optimizer``.
        features: This process's features.
        count: Number of passes over all features.
        rng: Draws the minibatches.
    """
    gathered = processes.gather(features)
    if not gathered or not count:
        return {}
    state, task, returns, weights = (torch.cat([getattr(part, name) for part in gathered]).to(passes.lm.device) for name in Features.__slots__)
    return {"value_loss": fit_values(passes.lm.value_head, optimizer, (state, task), returns, weights, passes=count, rng=rng)}


def warm_up_critic(passes: Passes, optimizer: torch.optim.Optimizer, data: Credited, *, count: int, rng: np.random.Generator) -> None:
    """Fit the value head before the first update, so that this update has a baseline, too; the policy does not change.

    Args:
        passes: Passes of the model.
        optimizer: From ``policy_optimizer``.
        data: Episodes of the policy, with their returns.
        count: Number of passes over their steps.
        rng: Draws the minibatches.
    """
    with torch.no_grad():
        units = [(trajectory,) for trajectory in data.trajectories]
        features = [Features.of(encoded, [data.returns[index] for index in encoded.indices]) for encoded in passes.encode(units)]
    fit_value_head(passes, optimizer, features, count=count, rng=rng)


def fit_values(
    head: ValueHead,
    optimizer: torch.optim.Optimizer,
    features: tuple[Tensor, Tensor],
    returns: Tensor,
    weights: Tensor,
    *,
    passes: int,
    rng: np.random.Generator,
    batch: int = 256,
) -> float:
    """Fit the head to returns by least squares; return the mean loss of the last pass.

    Args:
        head: Changed in place.
        optimizer: Over the head's parameters; any other parameters in it must have no gradient.
        features: ``state`` and ``task``, (S, H) each, without gradient.
        returns: (S,) targets.
        weights: (S,) 0 for steps that do not count.
        passes: Number of passes over all steps.
        rng: Draws the minibatches.
        batch: Steps per minibatch.
    """
    states, tasks = features
    last = 0.0
    for _ in range(passes):
        minibatches = torch.from_numpy(rng.permutation(len(returns))).to(returns.device).split(batch)
        losses = []
        for rows in minibatches:
            optimizer.zero_grad(set_to_none=True)
            loss = masked_mean(value_loss(head(states[rows], tasks[rows]), returns[rows]), weights[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        last = float(torch.stack(losses).mean())
    optimizer.zero_grad(set_to_none=True)
    return last


def explained_variance(values: Floats, returns: Floats) -> float:
    """Share of the variance of the returns that the values explain: 1 - Var(R - V) / Var(R); 0 if the returns are all equal, or there are none.

    Args:
        values: (S,) predicted values V.
        returns: (S,) returns R.
    """
    variance = float(np.var(returns)) if len(returns) else 0.0
    return 1.0 - float(np.var(returns - values)) / variance if variance > 1e-12 else 0.0


def explained_by_values(trajectories: Sequence[Trajectory], gamma: float) -> float:
    """Return how much of the variance of the Monte Carlo returns, Σ_{j≥t} γ^{j-t}·r_j, the values recorded during the rollout explain.

    Not of the critic's targets: those contain the values themselves, the more the smaller λ is. An episode that an infrastructure
    fault cut off has no return and does not count.
    """
    whole = [trajectory for trajectory in trajectories if not trajectory.steps[-1].masked]
    if not whole:
        return 0.0
    episodes = as_episodes(whole)
    live = episodes.live.copy()
    live[live] = [not step.masked for trajectory in whole for step in trajectory.steps]
    return explained_variance(episodes.values[live], discounted_sum(episodes.rewards, gamma)[live])
