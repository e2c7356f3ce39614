"""The policy's improvement from credited episodes: the clipped objective over action tokens, for a few passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..credit.episodes import Floats
from ..models.language_model import LanguageModel
from ..models.value_head import mean_over_first
from ..parallel import processes, sharding
from ..trajectory import Trajectory
from .advantages import Credited
from .batches import Batch, collate, micro_batches
from .critic import fit_values
from .losses import action_logprobs, kl_k2, ppo_clip
from .schedule import HEAD_RATE

__all__ = ["anchored", "improve", "make_optimizer", "reference_logprobs", "scaled", "warm_up_critic"]


def make_optimizer(lm: LanguageModel, lr: float) -> torch.optim.AdamW:
    """Return the optimizer: the policy's parameters in the first group, the value head's in the second.

    The value head reads detached features and may learn faster.
    """
    head = {id(parameter) for parameter in lm.value_head.parameters()}
    policy = [parameter for parameter in lm.trainable().values() if id(parameter) not in head]
    groups: list[dict[str, Any]] = [{"params": policy}, {"params": list(lm.value_head.parameters()), "lr": HEAD_RATE * lr}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0)


def reference_logprobs(lm: LanguageModel, trajectories: Sequence[Trajectory], reference: dict[str, Tensor], config: Config) -> list[Floats]:
    """Return the log-probabilities of each trajectory's action tokens, (N,) each, under the reference policy's weights.

    Once per update, for all passes over it; there is no second model.

    Args:
        lm: The model; its own weights are back in place afterwards.
        trajectories: Whose tokens are meant.
        reference: The reference policy's trainable weights by name.
        config: Uses ``temperature, token_budget``.
    """
    mine = processes.share(trajectories)
    found: list[Floats] = [np.zeros(0)] * len(mine)
    with torch.no_grad(), lm.swapped(reference), lm.profiler("forward"):
        for group in lm.in_step(micro_batches(mine, config.token_budget)):
            batch = collate([mine[index] for index in group]).to(lm.device)
            lm.profiler.count("forward", batch.tokens)
            hidden = lm.hidden(batch.ids)[batch.token_at[:, 0], batch.token_at[:, 1]]
            logprobs, _ = action_logprobs(hidden, scaled(lm, config), batch.targets)
            counts = [sum(len(step.generation.token_ids) for step in mine[index].steps) for index in group]
            for index, one in zip(group, np.split(logprobs.double().cpu().numpy(), np.cumsum(counts)[:-1]), strict=True):
                found[index] = one
    return processes.gather(found)


def anchored(lm: LanguageModel, data: Credited, reference: dict[str, Tensor], config: Config) -> Credited:
    """Return credited trajectories with what the KL term needs; without one, as they are."""
    return replace(data, ref_logprobs=reference_logprobs(lm, data.trajectories, reference, config)) if config.kl else data


def improve(lm: LanguageModel, optimizer: torch.optim.Optimizer, data: Credited, config: Config, rng: np.random.Generator) -> dict[str, float]:
    """Take ``epochs`` × ``minibatches`` optimizer steps on credited trajectories; return the means of what was measured.

    Args:
        lm: The model; changed in place.
        optimizer: Over ``lm.trainable()``.
        data: What to learn from; with ``ref_logprobs`` if ``config.kl`` is to act.
        config: Uses ``epochs, minibatches, clip, kl, entropy, max_grad_norm, value_passes, token_budget``.
        rng: Draws the minibatches.
    """
    usable = [index for index, one in enumerate(data.trajectories) if any(step.generation.token_ids and not step.masked for step in one.steps)]
    if not usable:  # every episode was cut off by a fault before it had an action
        return {}
    sums: dict[str, float] = {}
    passes = 0
    seen: list[_States] = []
    lm.eval()  # no dropout: the ratio compares the policy with itself, as it sampled
    for epoch in range(config.epochs):
        order = rng.permutation(usable)
        for chosen in np.array_split(order, min(config.minibatches, len(order))):
            measured = _optimizer_step(lm, optimizer, data, [int(index) for index in chosen], config, seen if epoch == 0 else None)
            passes += 1
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + value
    with lm.profiler("critic"):
        seen = processes.gather(seen)
        critic = _improve_critic(lm, optimizer, seen, config, rng) if seen else {}
    return {name: value / max(passes, 1) for name, value in sums.items()} | critic


def warm_up_critic(lm: LanguageModel, optimizer: torch.optim.Optimizer, data: Credited, config: Config, rng: np.random.Generator) -> None:
    """Fit the value head before the first update, so that even that one has a baseline; the policy stays as it is.

    Args:
        lm: The model; only its value head is changed.
        optimizer: From ``make_optimizer``.
        data: Episodes of the policy, with their returns.
        config: Uses ``value_passes, token_budget``.
        rng: Draws the minibatches.
    """
    seen: list[_States] = []
    mine = processes.share(range(len(data.trajectories)))
    with torch.no_grad():
        for group in lm.in_step(micro_batches([data.trajectories[index] for index in mine], config.token_budget)):
            batch = data.batch([mine[index] for index in group]).to(lm.device)
            seen.append(_states(lm.hidden(batch.ids), batch))
    _improve_critic(lm, optimizer, processes.gather(seen), config, rng)


@dataclass(frozen=True, slots=True)
class _States:
    """What the value head is fitted to; without gradient."""

    state: Tensor
    """(S, H)"""
    task: Tensor
    """(S, H)"""
    returns: Tensor
    """(S,)"""
    weights: Tensor
    """(S,)"""


def _states(hidden: Tensor, batch: Batch) -> _States:
    # Detached: a critic that is still wrong must not reshape the features that the policy acts on.
    hidden = hidden.detach()
    rows = batch.state_at[:, 0]
    return _States(hidden[rows, batch.state_at[:, 1]], mean_over_first(hidden, batch.prompt_lengths)[rows], batch.returns, batch.weights)


def _improve_critic(lm: LanguageModel, optimizer: torch.optim.Optimizer, seen: list[_States], config: Config, rng: np.random.Generator) -> dict[str, float]:
    features = torch.cat([one.state for one in seen]), torch.cat([one.task for one in seen])
    returns, weights = torch.cat([one.returns for one in seen]), torch.cat([one.weights for one in seen])
    return {"value_loss": fit_values(lm.value_head, optimizer, features, returns, weights, passes=config.value_passes, rng=rng)}


def _optimizer_step(
    lm: LanguageModel, optimizer: torch.optim.Optimizer, data: Credited, chosen: list[int], config: Config, states: list[_States] | None = None
) -> dict[str, float]:
    """Take one step of the policy on the chosen trajectories; what the critic needs of them goes to ``states``."""
    trajectories = [data.trajectories[index] for index in chosen]
    # Weights over the whole minibatch, not per micro-batch: the gradient does not depend on how it is cut up.
    live = [step for one in trajectories for step in one.steps if step.generation.token_ids and not step.masked]
    tokens = sum(len(step.generation.token_ids) for step in live)
    measured: dict[str, float] = {}
    optimizer.zero_grad(set_to_none=True)
    profiler = lm.profiler
    mine = processes.share(chosen)
    for group in lm.in_step(micro_batches([data.trajectories[index] for index in mine], config.token_budget)):
        members = [mine[index] for index in group]
        with profiler("encode"):
            batch = data.batch(members).to(lm.device)
        with profiler("forward"):
            everything = lm.hidden(batch.ids)  # (B, L, H)
            if states is not None:
                states.append(_states(everything, batch))
            loss, seen = _loss(lm, everything, batch, data.token_advantages(members, batch), tokens, config, with_kl=data.ref_logprobs is not None)
        with profiler("backward"):
            loss.backward()
        for phase in ("forward", "backward"):
            profiler.count(phase, batch.tokens)
        for name, value in seen.items():
            measured[name] = measured.get(name, 0.0) + value
    with profiler("optimizer"):
        processes.add_gradients(lm.trainable().values())
        norm = sharding.clip_gradients(lm.trainable().values(), config.max_grad_norm)
        optimizer.step()  # the value head has no gradient here and stays as it is
    return {**processes.add_numbers(measured), "grad_norm": norm}


def _loss(
    lm: LanguageModel, everything: Tensor, batch: Batch, advantages: Tensor, tokens: int, config: Config, *, with_kl: bool
) -> tuple[Tensor, dict[str, float]]:
    """Return this micro-batch's share of the loss over ``tokens`` action tokens, from its hidden states (B, L, H) and advantages (N,)."""
    weight = batch.weights[batch.token_step]  # (N,)
    hidden = everything[batch.token_at[:, 0], batch.token_at[:, 1]]  # (N, H)
    logprobs, entropy = action_logprobs(hidden, scaled(lm, config), batch.targets, entropy=True)
    surrogate, diagnostics = ppo_clip(logprobs, batch.old_logprobs, advantages, config.clip, weight)
    policy = (surrogate * weight).sum() / tokens
    spread = (entropy * weight).sum() / tokens
    loss = policy - config.entropy * spread
    seen = {
        "policy_loss": float(policy.detach()),
        "entropy": float(spread.detach()),
    }
    share = float(weight.sum()) / tokens
    seen |= {name: float(number) * share for name, number in diagnostics.items()}
    if with_kl:
        divergence = (kl_k2(logprobs, batch.ref_logprobs) * weight).sum() / tokens
        loss = loss + config.kl * divergence
        seen["kl"] = float(divergence.detach())
    return loss, seen


def scaled(lm: LanguageModel, config: Config) -> Callable[[Tensor], Tensor]:
    """Return what maps hidden states to the logits of the policy that samples."""
    # The policy is the softmax at the sampling temperature, so it is that softmax whose probabilities are compared.
    return lm.logits if config.temperature == 1.0 else lambda hidden: lm.logits(hidden) / config.temperature
