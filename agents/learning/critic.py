"""Fitting the critic: the value head, to the returns of the newest episodes.

A step's advantage is the return less the value of the state. Without a value that knows how hard the task is and how far
it has come, right calls in hard tasks are punished and wrong ones in easy tasks rewarded. So the head sees both the state
and the task, and after every update it is fitted in many cheap passes: the hidden states are computed once, by the policy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..credit.episodes import Floats
from ..models.value_head import ValueHead
from .losses import masked_mean, value_loss

__all__ = ["explained_variance", "fit_values"]


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
