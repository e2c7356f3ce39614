"""Learning from pairs of episodes of one task, a better and a worse one: optimizer steps on the loss of ``losses.dpo``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import LearningConfig
from ..trajectory import Trajectory
from .losses import dpo
from .passes import Encoded, Passes
from .policy_gradient import reference_logprobs
from .relatives import relatives_together

__all__ = ["Pair", "prefer"]

Pair = tuple[Trajectory, Trajectory]
"""Two episodes of one task: the better one, the worse one."""


def prefer(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    pairs: Sequence[Pair],
    learning: LearningConfig,
    rng: np.random.Generator,
    *,
    beta: float,
    imitation: float,
) -> dict[str, float]:
    """Take ``epochs`` × ``minibatches`` optimizer steps on pairs; return mean metrics.

    Args:
        passes: Passes of the model, which is changed in place. The model as it is at the call is the reference.
        optimizer: Over ``lm.trainable()``.
        pairs: May be empty.
        learning: Uses ``epochs`` and ``minibatches``.
        rng: Draws the minibatches.
        beta: β of ``losses.dpo``.
        imitation: Weight of the winners' negative log-likelihood, in nats per action token.
    """
    if not pairs:
        return {}
    passes.lm.eval()
    flat = reference_logprobs(passes, [trajectory for pair in pairs for trajectory in pair], {})
    ref_logprobs = np.array([logprobs.sum() for logprobs in flat]).reshape(-1, 2)  # (P, 2)
    sums: dict[str, float] = {}
    steps = 0
    tasks = [better.task.id for better, _ in pairs]
    for _ in range(learning.epochs):
        order = relatives_together(rng.permutation(len(pairs)).tolist(), tasks)
        for chosen in np.array_split(order, min(learning.minibatches, len(pairs))):

            def loss(encoded: Encoded, chosen: Sequence[int] = chosen.tolist()) -> tuple[Tensor, dict[str, float]]:
                reference = torch.from_numpy(ref_logprobs[[chosen[index] for index in encoded.indices]])
                value, diagnostics = _preference(encoded, reference, beta, imitation)
                share = len(encoded.indices) / len(chosen)
                return share * value, {name: share * float(number) for name, number in {"loss": value.detach(), **diagnostics}.items()}

            for name, number in passes.step(optimizer, [pairs[index] for index in chosen], loss).items():
                sums[name] = sums.get(name, 0.0) + number
            steps += 1
    return {name: value / steps for name, value in sums.items()}


def _preference(encoded: Encoded, reference: Tensor, beta: float, imitation: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean loss of the micro-batch's pairs, and diagnostics; ``reference`` (P, 2) holds the reference policy's log-probabilities."""
    logprobs = encoded.logprobs()  # (N,)
    device = logprobs.device
    counts = torch.tensor(encoded.batch.actions, device=device)
    owner = torch.repeat_interleave(torch.arange(len(counts), device=device), counts)
    total = logprobs.new_zeros(len(counts)).index_add(0, owner, logprobs).view(-1, 2)  # (P, 2)
    reference = reference.to(total)
    losses, diagnostics = dpo(total[:, 0], total[:, 1], reference[:, 0], reference[:, 1], beta)
    return losses.mean() - imitation * (total[:, 0] / counts.view(-1, 2)[:, 0]).mean(), diagnostics
