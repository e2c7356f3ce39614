"""Policy improvement from credited episodes: the clipped objective over action tokens, for a few epochs."""

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
from .relatives import relatives_together

__all__ = ["improve", "reference_logprobs", "take_step"]


def reference_logprobs(passes: Passes, trajectories: Sequence[Trajectory], reference: Mapping[str, Tensor]) -> list[Floats]:
    """Return the log-probabilities of each trajectory's action tokens, (N,) each, under the reference policy's weights.

    They are computed once per update and serve all its epochs. There is no second model: its weights are swapped in.

    Args:
        passes: Passes of the model; its own weights are restored afterwards.
        trajectories: The trajectories.
        reference: The reference policy's trainable weights by name; empty: the model as it is.
    """
    return passes.measure(trajectories, lambda encoded: encoded.by_trajectory(encoded.logprobs()), weights=reference)


def improve(
    passes: Passes, optimizer: torch.optim.Optimizer, data: Credited, learning: LearningConfig, rng: np.random.Generator, reference: Mapping[str, Tensor]
) -> dict[str, float]:
    """Take ``epochs`` × ``minibatches`` optimizer steps on credited trajectories, then fit the value head; return mean metrics.

    Args:
        passes: Passes of the model, which is changed in place.
        optimizer: From ``policy_optimizer``.
        data: Trajectories with advantages and returns.
        learning: Uses ``epochs, minibatches, clip, ratio, kl, entropy, value_passes``.
        rng: Draws the minibatches.
        reference: The reference policy's trainable weights for the KL term; read only if ``kl`` is positive.

    Returns:
        Name -> mean over optimizer steps: ``policy_loss``, ``entropy`` and ``approx_kl`` in nats per token, ``clip_fraction``, ``grad_norm``,
        ``kl`` if that term is on; and ``value_loss`` of the value head. Empty if there is nothing to learn from.
    """
    usable = [index for index, trajectory in enumerate(data.trajectories) if any(step.generation.sampled and not step.masked for step in trajectory.steps)]
    if not usable:  # a fault cut off every episode before its first action
        return {}
    ref_logprobs = reference_logprobs(passes, data.trajectories, reference) if learning.kl else None
    sums: dict[str, float] = {}
    steps = 0
    tasks = [trajectory.task.id for trajectory in data.trajectories]
    features: list[Features] = []
    passes.lm.eval()  # no dropout, as while sampling: the ratio compares the policy with itself
    for epoch in range(learning.epochs):
        order = relatives_together(rng.permutation(usable).tolist(), tasks)
        for chosen in np.array_split(order, min(learning.minibatches, len(order))):
            measured = take_step(passes, optimizer, data, chosen.tolist(), learning, ref_logprobs, features if epoch == 0 else None)
            steps += 1
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + value
    with passes.lm.profiler("critic"):
        critic = fit_value_head(passes, optimizer, features, count=learning.value_passes, rng=rng)
    return {name: value / steps for name, value in sums.items()} | critic


def take_step(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    data: Credited,
    chosen: Sequence[int],
    learning: LearningConfig,
    ref_logprobs: Sequence[Floats] | None = None,
    features: list[Features] | None = None,
) -> dict[str, float]:
    """Take one optimizer step of the policy on some of the trajectories; return its metrics.

    Args:
        passes: Passes of the model, which is changed in place.
        optimizer: From ``policy_optimizer``; the value head has no gradient here and does not change.
        data: Trajectories with advantages and returns.
        chosen: Indices of the trajectories of this minibatch.
        learning: Uses ``clip, ratio, kl, entropy``.
        ref_logprobs: The reference policy's log-probabilities of all trajectories, per action token (N,) each; None leaves the KL term out.
        features: The critic's features of the minibatch are appended here.
    """
    steps = [step for index in chosen for step in data.trajectories[index].steps if step.generation.sampled and not step.masked]
    # Normalized over the whole minibatch, not per micro-batch, so that the gradient does not depend on the micro-batches.
    tokens = sum(step.generation.sampled for step in steps)

    def loss(encoded: Encoded) -> tuple[Tensor, dict[str, float]]:
        members = [chosen[index] for index in encoded.indices]
        batch = encoded.batch
        if features is not None:
            features.append(Features.of(encoded, [data.returns[index] for index in members]))
        advantages = encoded.tensor([data.token_advantages(index) for index in members])
        weight = batch.weights[batch.token_step]  # (N,)
        logprobs, entropy = encoded.logprobs_and_entropy(learned=learning.entropy > 0)
        steps_of = batch.token_step if learning.ratio == "step" else None
        surrogate, diagnostics = ppo_clip(logprobs, batch.old_logprobs, advantages, learning.clip, weight, steps_of)
        policy_loss = (surrogate * weight).sum() / tokens
        mean_entropy = (entropy * weight).sum() / tokens
        total = policy_loss - learning.entropy * mean_entropy if learning.entropy else policy_loss
        measured: dict[str, Any] = {"policy_loss": policy_loss, "entropy": mean_entropy}
        share = float(weight.sum()) / tokens
        measured |= {name: float(number) * share for name, number in diagnostics.items()}
        if ref_logprobs is not None:
            kl = (kl_k2(logprobs, encoded.tensor([ref_logprobs[index] for index in members])) * weight).sum() / tokens
            total = total + learning.kl * kl
            measured["kl"] = kl
        return total, {name: float(number.detach()) if isinstance(number, Tensor) else number for name, number in measured.items()}

    return passes.step(optimizer, [(data.trajectories[index],) for index in chosen], loss)
