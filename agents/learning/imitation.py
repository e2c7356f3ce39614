"""Imitation: the mean negative log-likelihood of action tokens, or of those of some steps; observation tokens are context only and carry no loss.

What it leaves out: packing, learning-rate search, early stopping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..credit.episodes import Floats
from ..trajectory import Trajectory
from .batches import length
from .passes import Encoded, Passes

__all__ = ["fit", "imitate"]


def imitate(passes: Passes, optimizer: torch.optim.Optimizer, chosen: Sequence[Trajectory], weights: Sequence[Floats] | None = None) -> float:
    """Take one optimizer step on the mean loss over the chosen trajectories' action tokens; return that loss, in nats per token.

    Args:
        passes: Passes of the model, which is changed in place.
        optimizer: From ``policy_optimizer``.
        chosen: The trajectories, at least one.
        weights: Per trajectory (T,) the weight of each step's tokens, 0 or more, not all 0; None: 1 each. The mean is weighted by them.
    """
    each = [np.ones(len(trajectory.steps)) for trajectory in chosen] if weights is None else weights
    per_token = [np.repeat(one, [step.generation.sampled for step in trajectory.steps]) for one, trajectory in zip(each, chosen, strict=True)]
    total = float(sum(one.sum() for one in per_token))

    def loss(encoded: Encoded) -> tuple[Tensor, dict[str, float]]:
        share = -(encoded.logprobs(temperature=1.0) * encoded.tensor([per_token[index] for index in encoded.indices])).sum() / total
        return share, {"loss": float(share.detach())}

    return passes.step(optimizer, [(trajectory,) for trajectory in chosen], loss)["loss"]


def fit(
    passes: Passes,
    demonstrations: Sequence[Trajectory],
    *,
    epochs: int,
    lr: float,
    batch: int = 16,
    seed: int = 0,
    on_step: Callable[[int, int, float], None] | None = None,
) -> float:
    """Fit a model to demonstrations and return the mean loss of the last epoch, in nats per action token; NaN if there is nothing to fit.

    Args:
        passes: Passes of the model, whose trainable parameters are changed in place.
        demonstrations: Trajectories with token ids.
        epochs: Passes over the demonstrations.
        lr: Peak learning rate; it warms up over the first 5 % of the steps and decays along a cosine to a tenth.
        batch: Demonstrations per optimizer step.
        seed: Seeds the order.
        on_step: Called after each step with the number of steps done, the total number of steps, and the loss.
    """
    if not demonstrations or epochs == 0:
        return math.nan
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(passes.lm.trainable().values(), lr=lr, weight_decay=0.0, betas=(0.9, 0.98))
    per_epoch = -(-len(demonstrations) // batch)
    total = per_epoch * epochs
    done = 0
    losses: list[float] = []
    passes.lm.train()
    for _ in range(epochs):
        losses = []
        # Batches of similar length, in random order: less padding, and still different batches in every epoch.
        lengths = np.array([length(trajectory) for trajectory in demonstrations])
        order = np.argsort(rng.random(len(demonstrations)) * 0.3 + np.argsort(np.argsort(lengths)) / len(demonstrations))
        for first in rng.permutation(per_epoch) * batch:
            scale = min(1.0, (done + 1) / (0.05 * total + 1)) * (0.55 + 0.45 * math.cos(math.pi * done / total))
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
            losses.append(imitate(passes, optimizer, [demonstrations[index] for index in order[first : first + batch]]))
            done += 1
            if on_step is not None:
                on_step(done, total, losses[-1])
    passes.lm.eval()
    return sum(losses) / len(losses)
