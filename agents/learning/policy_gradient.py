"""The policy's improvement from credited episodes: the clipped objective over action tokens, for a few passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import LearningConfig
from ..credit.episodes import Floats
from ..trajectory import Trajectory
from .advantages import Credited
from .critic import Features, fit_value_head
from .losses import kl_k2, ppo_clip
from .passes import Encoded, Passes

__all__ = ["improve", "reference_logprobs", "take_step"]


def reference_logprobs(passes: Passes, trajectories: Sequence[Trajectory], reference: Mapping[str, Tensor]) -> list[Floats]:
    """Return the log-probabilities of each trajectory's action tokens, (N,) each, under the reference policy's weights.

    Once per update, for all passes over it; there is no second model.

    Args:
        passes: Of the model; its own weights are back in place afterwards.
        trajectories: Whose tokens are meant.
        reference: The reference policy's trainable weights by name; none: the model as it is.
    """
    return passes.measure(trajectories, lambda encoded: encoded.by_trajectory(encoded.logprobs()), weights=reference)


def improve(
    passes: Passes, optimizer: torch.optim.Optimizer, data: Credited, learning: LearningConfig, rng: np.random.Generator, reference: Mapping[str, Tensor]
) -> dict[str, float]:
    """Take ``epochs`` × ``minibatches`` optimizer steps on credited trajectories, then fit the value head; return the means of what was measured.

    Args:
        passes: Of the model; it is changed in place.
        optimizer: From ``policy_optimizer``.
        data: What to learn from.
        learning: Uses ``epochs, minibatches, clip, kl, entropy, value_passes``.
        rng: Draws the minibatches.
        reference: The weights that the KL term refers to; read only if ``kl`` is positive.
    """
    usable = [index for index, trajectory in enumerate(data.trajectories) if any(step.generation.token_ids and not step.masked for step in trajectory.steps)]
    if not usable:  # every episode was cut off by a fault before it had an action
        return {}
    anchors = reference_logprobs(passes, data.trajectories, reference) if learning.kl else None
    sums: dict[str, float] = {}
    taken = 0
    seen: list[Features] = []
    passes.lm.eval()  # no dropout: the ratio compares the policy with itself, as it sampled
    for epoch in range(learning.epochs):
        order = rng.permutation(usable)
        for chosen in np.array_split(order, min(learning.minibatches, len(order))):
            measured = take_step(passes, optimizer, data, chosen.tolist(), learning, anchors, seen if epoch == 0 else None)
            taken += 1
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + value
    with passes.lm.profiler("critic"):
        critic = fit_value_head(passes, optimizer, seen, count=learning.value_passes, rng=rng)
    return {name: value / taken for name, value in sums.items()} | critic


def take_step(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    data: Credited,
    chosen: Sequence[int],
    learning: LearningConfig,
    anchors: Sequence[Floats] | None = None,
    seen: list[Features] | None = None,
) -> dict[str, float]:
    """Take one optimizer step of the policy on some of the trajectories; return what was measured.

    Args:
        passes: Of the model; it is changed in place.
        optimizer: From ``policy_optimizer``; the value head has no gradient here and stays as it is.
        data: What to learn from.
        chosen: Which of its trajectories.
        learning: Uses ``clip, kl, entropy``.
        anchors: The reference policy's log-probabilities of all trajectories, per action token (N,); None leaves the KL term out.
        seen: What the critic needs of them goes here.
    """
    live = [step for index in chosen for step in data.trajectories[index].steps if step.generation.token_ids and not step.masked]
    # Weights over the whole minibatch, not per micro-batch: the gradient does not depend on how it is cut up.
    tokens = sum(len(step.generation.token_ids) for step in live)

    def loss(encoded: Encoded) -> tuple[Tensor, dict[str, float]]:
        members = [chosen[place] for place in encoded.places]
        batch = encoded.batch
        if seen is not None:
            seen.append(Features.of(encoded, [data.returns[index] for index in members]))
        advantages = encoded.tensor([data.of_tokens(index) for index in members])
        weight = batch.weights[batch.token_step]  # (N,)
        logprobs, entropy = encoded.logprobs_and_entropy()
        surrogate, diagnostics = ppo_clip(logprobs, batch.old_logprobs, advantages, learning.clip, weight)
        policy = (surrogate * weight).sum() / tokens
        spread = (entropy * weight).sum() / tokens
        total = policy - learning.entropy * spread
        measured: dict[str, Any] = {"policy_loss": policy, "entropy": spread}
        share = float(weight.sum()) / tokens
        measured |= {name: float(number) * share for name, number in diagnostics.items()}
        if anchors is not None:
            divergence = (kl_k2(logprobs, encoded.tensor([anchors[index] for index in members])) * weight).sum() / tokens
            total = total + learning.kl * divergence
            measured["kl"] = divergence
        return total, {name: float(number.detach()) if isinstance(number, Tensor) else number for name, number in measured.items()}

    return passes.step(optimizer, [(data.trajectories[index],) for index in chosen], loss)
