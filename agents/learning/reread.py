"""Reading episodes again with the weights that learn: their values and log-probabilities, and what that says of who sampled them.

A model server has no value head, and its log-probabilities are not quite those of the learner: other kernels, another precision, or
weights of an update ago. So one pass of the learner gives each episode that a server played the values that GAE needs, and the
log-probabilities from which the ratio of PPO starts. That the tokens were sampled from another distribution is corrected by a
truncated importance weight of each token:

    w_i = min(π_learner(a_i) / π_server(a_i), C)        loss_i = -w_i · min(ρ_i·A_i, clamp(ρ_i, 1-ε, 1+ε)·A_i),  ρ_i = π(a_i) / π_learner(a_i)

with π_learner before the update, so that no gradient flows into w. Source of the decoupled ratio: Hilton et al., "Batch size-invariance
for policy optimization" (arXiv 2110.00641), and, for language models on servers, Fu et al., "AReaL" (arXiv 2505.24298); of the truncation:
Ionides, "Truncated Importance Sampling" (2008), and Yao et al., "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"
(fengyao.notion.site/off-policy-rl, 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..trajectory import Step, Trajectory
from .batches import length
from .losses import kl_k3
from .passes import Encoded, Passes

__all__ = ["as_of_now", "corrected"]


def as_of_now(passes: Passes, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Return the trajectories with the log-probabilities and values of the current policy instead of those of the sampling."""

    def read(encoded: Encoded) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(encoded.by_trajectory(encoded.logprobs(), "tokens"), encoded.by_trajectory(encoded.values(), "steps"), strict=True))

    passes.lm.eval()  # no dropout, as while sampling
    readable = [index for index, trajectory in enumerate(trajectories) if length(trajectory)]  # a first observation may be too long for the model
    updated = list(trajectories)
    for index, (logprobs, values) in zip(readable, passes.measure([trajectories[index] for index in readable], read), strict=True):
        remaining, steps = iter(logprobs.tolist()), []
        for step, value in zip(trajectories[index].steps, values.tolist(), strict=True):
            forced = range(*step.generation.forced)
            step_logprobs = tuple(0.0 if place in forced else next(remaining) for place in range(len(step.generation.token_ids)))
            steps.append(replace(step, generation=replace(step.generation, logprobs=step_logprobs, value=value, importance=())))
        updated[index] = replace(trajectories[index], steps=tuple(steps))
    return updated


def corrected(passes: Passes, trajectories: Sequence[Trajectory], cap: float) -> tuple[list[Trajectory], dict[str, float]]:
    """Return episodes that servers played with the learner's values and log-probabilities and with importance weights.

    Args:
        passes: Passes of the model that learns.
        trajectories: The episodes, with the log-probabilities that the servers stated.
        cap: C > 0, the largest weight.

    Returns:
        The episodes, and over all tokens that are learned from: ``importance``, the mean of min(π_learner/π_server, C);
        ``importance_truncated``, the share of tokens that C cuts; ``sampling_kl``, an estimate of KL(π_server‖π_learner) in nats per
        token, never negative (``losses.kl_k3``).
    """
    reread, counted = [], [np.zeros((2, 0))]
    for sampled, now in zip(trajectories, as_of_now(passes, trajectories), strict=True):
        steps: list[Step] = []
        for before, after in zip(sampled.steps, now.steps, strict=True):
            both = np.array([before.generation.logprobs, after.generation.logprobs])  # (2, L)
            weights = np.exp(np.minimum(both[1] - both[0], np.log(cap)))
            steps.append(replace(after, generation=replace(after.generation, importance=tuple(weights.tolist()))))
            if not after.masked:
                counted.append(np.delete(both, slice(*before.generation.forced), axis=1))
        reread.append(replace(now, steps=tuple(steps)))
    server, learner = np.concatenate(counted, axis=1)
    if not len(server):
        return reread, {}
    measured = {
        "importance": np.exp(np.minimum(learner - server, np.log(cap))).mean(),
        "importance_truncated": (learner - server > np.log(cap)).mean(),
        "sampling_kl": kl_k3(torch.from_numpy(server), torch.from_numpy(learner)).mean(),
    }
    return reread, {name: float(value) for name, value in measured.items()}
