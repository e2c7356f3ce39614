"""``ValueHead``: the critic. It reads the policy's hidden states and leaves them alone.

A step's advantage is the return less the value of the state. Without a value that knows how hard the task is and how far
it has come, right calls in hard tasks are punished and wrong ones in easy tasks rewarded. So the head sees both the state
and the task, and after every update it is fitted in many cheap passes: the hidden states are computed once, by the policy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .credit import Floats
from .losses import masked_mean, value_loss

__all__ = ["ValueHead", "explained_variance", "fit_values", "mean_over_first"]


class ValueHead(nn.Module):
    """V(s) from two hidden states of the policy, through one hidden layer. A new head says 0 everywhere.

    Args:
        width: H, of the policy's hidden states.
        hidden: Units of the hidden layer.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.state_norm, self.task_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.hidden, self.value = nn.Linear(2 * width, hidden), nn.Linear(hidden, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, state: Tensor, task: Tensor) -> Tensor:
        """Return the values (...).

        Args:
            state: (..., H) the last token's of the context.
            task: (..., H) the mean over the tokens of the first observation.
        """
        both = torch.cat([self.state_norm(state), self.task_norm(task)], dim=-1)
        return self.value(torch.tanh(self.hidden(both))).squeeze(-1)  # type: ignore[no-any-return]


def mean_over_first(hidden: Tensor, counts: Tensor) -> Tensor:
    """Return the mean (B, H) over the first ``counts`` (B,) of the hidden states (B, L, H) of each row."""
    counts = counts.clamp(min=1)
    inside = torch.arange(hidden.shape[1], device=hidden.device) < counts[:, None]
    return (hidden * inside[:, :, None]).sum(1) / counts[:, None]


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
