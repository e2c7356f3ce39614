"""``ValueHead``: the critic. It reads the policy's hidden states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ValueHead", "mean_by"]

NARROW, INPUTS = 128, 32
"""Widths up to which features are read as they are (that of ``tiny``, 128), and to how many inputs of 1 each state of a wider model amounts."""


class ValueHead(nn.Module):
    """V(s) from two hidden states of the policy, through one hidden layer. A new head returns 0 everywhere.

    Wide states are scaled down, and the first weights up: with Adam, hidden weights need steps of 1 / inputs (Yang et al., "Tensor Programs V",
    arXiv 2203.03466), and here the learning rate is one for all of them. Those of up to ``NARROW`` units are read as they are.

    Args:
        width: H, of the policy's hidden states.
        hidden: Units of the hidden layer.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.state_norm, self.task_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.hidden, self.value = nn.Linear(2 * width, hidden), nn.Linear(hidden, 1)
        # Adam moves every weight by about the learning rate, so what a unit sums up moves by that times the number of inputs; and the states of
        # large models are nearly the same everywhere (of SmolLM2's, normalized, 94 to 99.6 % are their mean), so that all these moves add up. With
        # inputs of 1, all units would be saturated after a few steps, the critic would be a constant, and stay one.
        self.scale = 1.0 if width <= NARROW else INPUTS / width
        with torch.no_grad():
            self.hidden.weight /= self.scale
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, state: Tensor, task: Tensor) -> Tensor:
        """Return the values (...).

        Args:
            state: (..., H) that of the last token of the context.
            task: (..., H) their mean over the tokens of the first observation.
        """
        features = torch.cat([self.state_norm(state), self.task_norm(task)], dim=-1)
        if self.scale != 1.0:
            features = features * self.scale
        return self.value(torch.tanh(self.hidden(features))).squeeze(-1)  # type: ignore[no-any-return]


def mean_by(states: Tensor, owners: Tensor, count: int) -> Tensor:
    """Return the means (O, H) of the states (F, H) that belong to each of O = ``count`` owners, 0 where none do; owners: (F,) from 0."""
    sizes = torch.bincount(owners, minlength=count).clamp(min=1)
    return states.new_zeros(count, states.shape[1]).index_add(0, owners, states) / sizes[:, None]
