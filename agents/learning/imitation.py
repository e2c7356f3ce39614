"""Imitation: the mean negative log-likelihood of action tokens; observation tokens are read, never learnt.

What it leaves out: packing, learning-rate search, early stopping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..models.language_model import LanguageModel
from ..parallel import processes, sharding
from ..trajectory import Trajectory
from .batches import collate, length, micro_batches
from .losses import action_logprobs

__all__ = ["backward", "fit"]


def fit(
    lm: LanguageModel,
    demonstrations: Sequence[Trajectory],
    *,
    epochs: int,
    lr: float,
    batch: int = 16,
    token_budget: int = 16_384,
    max_grad_norm: float = 1.0,
    seed: int = 0,
    on_step: Callable[[int, int, float], None] | None = None,
) -> float:
    """Fit a model to demonstrations and return the mean loss of the last pass, in nats per action token.

    Args:
        lm: The model; its trainable parameters are changed in place.
        demonstrations: Trajectories with token ids.
        epochs: Passes over them.
        lr: Peak learning rate; it warms up over a twentieth of the steps and decays to a tenth along a cosine.
        batch: Demonstrations per optimizer step.
        token_budget: Most padded tokens in one forward pass.
        max_grad_norm: Gradients are scaled down to this norm.
        seed: Seeds the order.
        on_step: Called after each step with the steps done, all steps, and the loss.
    """
    if not demonstrations or epochs == 0:
        return math.nan
    rng = np.random.default_rng(seed)
    parameters = list(lm.trainable().values())
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, betas=(0.9, 0.98))
    per_epoch = -(-len(demonstrations) // batch)
    total = per_epoch * epochs
    done = 0
    losses: list[float] = []
    lm.train()
    for _ in range(epochs):
        losses = []
        # Batches of similar length, in random order: less padding, and still a different mixture in every pass.
        keys = rng.random(len(demonstrations)) * 0.3 + np.argsort(np.argsort([length(one) for one in demonstrations])) / len(demonstrations)
        order = np.argsort(keys)
        for first in rng.permutation(per_epoch) * batch:
            chosen = [demonstrations[index] for index in order[first : first + batch]]
            scale = min(1.0, (done + 1) / (0.05 * total + 1)) * (0.55 + 0.45 * math.cos(math.pi * done / total))
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
            losses.append(backward(lm, chosen, token_budget))
            sharding.clip_gradients(parameters, max_grad_norm)
            optimizer.step()
            done += 1
            if on_step is not None:
                on_step(done, total, losses[-1])
    lm.eval()
    return sum(losses) / len(losses)


def backward(lm: LanguageModel, chosen: Sequence[Trajectory], token_budget: int) -> float:
    """Set the gradients of the mean loss over the chosen demonstrations' action tokens, and return that loss.

    Of several processes, all must choose the same; each encodes its share.
    """
    tokens = sum(len(step.generation.token_ids) for trajectory in chosen for step in trajectory.steps)
    total = 0.0
    for parameter in lm.trainable().values():
        parameter.grad = None
    mine = processes.share(chosen)
    for group in lm.in_step(micro_batches(mine, token_budget)):
        batch = collate([mine[index] for index in group]).to(lm.device)
        hidden = lm.hidden(batch.ids)[batch.token_at[:, 0], batch.token_at[:, 1]]  # (N, H)
        logprobs, _ = action_logprobs(hidden, lm.logits, batch.targets)
        loss = -logprobs.sum() / tokens
        loss.backward()
        total += float(loss.detach())
    processes.add_gradients(lm.trainable().values())
    return processes.add_numbers({"loss": total})["loss"]
