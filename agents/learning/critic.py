"""Fitting the critic: the value head, to the returns of the newest episodes.

A step's advantage is the return less the value of the state. Without a value that knows how hard the task is and how far
it has come, right calls in hard tasks are punished and wrong ones in easy tasks rewarded. So the head sees both the state
and the task, and after every update it is fitted in many cheap passes: the hidden states are computed once, by the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..credit.episodes import Floats
from ..models.value_head import ValueHead
from ..parallel import processes
from .advantages import Credited
from .losses import masked_mean, value_loss
from .passes import Encoded, Passes

__all__ = ["Features", "explained_by_values", "explained_variance", "fit_value_head", "fit_values", "warm_up_critic"]


@dataclass(frozen=True, slots=True)
class Features:
    """What the value head is fitted to, without gradient, for S steps."""

    state: Tensor
    """(S, H)"""
    task: Tensor
    """(S, H)"""
    returns: Tensor
    """(S,)"""
    weights: Tensor
    """(S,) 0 for steps that say nothing."""

    @classmethod
    def of(cls, encoded: Encoded, returns: Sequence[ArrayLike]) -> Features:
        """Return those of a micro-batch, whose trajectories have these returns per step."""
        # Detached: a critic that is still wrong must not reshape the features that the policy acts on.
        return cls(encoded.states.detach(), encoded.tasks.detach(), encoded.tensor(returns), encoded.batch.weights)


def fit_value_head(passes: Passes, optimizer: torch.optim.Optimizer, seen: Sequence[Features], *, count: int, rng: np.random.Generator) -> dict[str, float]:
    """Fit the value head to what all processes have seen of an update; return its mean loss in the last pass.

    Args:
        passes: Of the model.
        optimizer: From ``policy_optimizer``.
        seen: This process's features.
        count: Passes over all of them.
        rng: Draws the minibatches.
    """
    every = processes.gather(seen)
    if not every or not count:
        return {}
    parts = (torch.cat([getattr(one, name) for one in every]) for name in Features.__slots__)
    state, task, returns, weights = parts
    return {"value_loss": fit_values(passes.lm.value_head, optimizer, (state, task), returns, weights, passes=count, rng=rng)}


def warm_up_critic(passes: Passes, optimizer: torch.optim.Optimizer, data: Credited, *, count: int, rng: np.random.Generator) -> None:
    """Fit the value head before the first update, so that even that one has a baseline; the policy stays as it is.

    Args:
        passes: Of the model.
        optimizer: From ``policy_optimizer``.
        data: Episodes of the policy, with their returns.
        count: Passes over their steps.
        rng: Draws the minibatches.
    """
    with torch.no_grad():
        units = [(trajectory,) for trajectory in data.trajectories]
        seen = [Features.of(encoded, [data.returns[place] for place in encoded.places]) for encoded in passes.encode(units)]
    fit_value_head(passes, optimizer, seen, count=count, rng=rng)


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
        optimizer: Over the head's parameters; those of others that it holds must have no gradient.
        features: ``state`` and ``task``, (S, H) each, without gradient.
        returns: (S,) targets.
        weights: (S,) 0 for steps that say nothing.
        passes: Over all steps.
        rng: Draws the minibatches.
        batch: Steps per minibatch.
    """
    states, tasks = features
    last = 0.0
    for _ in range(passes):
        chunks = torch.from_numpy(rng.permutation(len(returns))).to(returns.device).split(batch)
        losses = []
        for rows in chunks:
            optimizer.zero_grad(set_to_none=True)
            loss = masked_mean(value_loss(head(states[rows], tasks[rows]), returns[rows]), weights[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        last = float(torch.stack(losses).mean())
    optimizer.zero_grad(set_to_none=True)
    return last


def explained_variance(values: Floats, returns: Floats) -> float:
    """Share of the variance of the returns that the values explain: 1 - Var(R - V) / Var(R); 0 if the returns are all equal, or none.

    Args:
        values: (S,)
        returns: (S,)
    """
    spread = float(np.var(returns)) if len(returns) else 0.0
    return 1.0 - float(np.var(returns - values)) / spread if spread > 1e-12 else 0.0


def explained_by_values(credited: Credited) -> float:
    """Return the share of the returns' variance that the values explain which the policy gave while it played; masked steps do not count."""
    live = ~np.concatenate([trajectory.masked for trajectory in credited.trajectories])
    values = np.array([step.generation.value for trajectory in credited.trajectories for step in trajectory.steps])
    return explained_variance(values[live], np.concatenate(credited.returns)[live])
