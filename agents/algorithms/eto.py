"""``eto``: explore, pair success with failure on the same task, prefer the one to the other (DPO), go on.

Source: Song et al., "Trial and Error: Exploration-Based Trajectory Optimization for LLM Agents" (arXiv 2403.02502). One
update is one of its iterations: the policy at its beginning is the reference of the preference loss. What it leaves out:
demonstrations as winners; a task that is never solved, or always, teaches nothing.

The loss of pairs alone only asks for a margin, and is content if the winners become less likely, as long as the losers fall
faster; iteration after iteration the policy then forgets how to solve anything. So the likelihood of the winners is part of the
loss, as in Pang et al., "Iterative Reasoning Preference Optimization" (arXiv 2404.19733), which found that term crucial, and
with the weight that they use: 1, per action token.

``algo_options``: ``"beta"`` (0.1), how closely the policy is held to that of the iteration's beginning; ``"imitation"`` (1.0),
weight of the winners' negative log-likelihood, in nats per action token; 0 is plain ETO. ``"pairs"`` (4), most pairs per task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..credit.episodes import Floats
from ..learning.batches import collate, length, micro_batches
from ..learning.losses import action_logprobs, dpo
from ..learning.policy_gradient import reference_logprobs, scaled
from ..models.language_model import LanguageModel
from ..parallel import processes, sharding
from ..runs.loop import Updates
from ..trajectory import Trajectory

if TYPE_CHECKING:
    from rich.console import Console

    from ..config import Config

__all__ = ["Pair", "pair_up", "prefer", "train"]

Pair = tuple[Trajectory, Trajectory]
"""Two episodes of one task: one that solved it, one that did not."""


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Learn from pairs of the policy's own episodes; arguments as for ``step_ppo.train``."""
    from ..runs.run import Run

    with Run(config, out, resume=resume, console=console) as run:
        config = run.config
        options = run.options(beta=0.1, imitation=1.0, pairs=4)
        run.warm_start()
        optimizer = torch.optim.AdamW(run.lm.trainable().values(), lr=config.lr, weight_decay=0.0)
        run.open(optimizer)
        updates = Updates(run, optimizer)
        for trajectories in updates.played():
            pairs = pair_up(trajectories, options["pairs"], run.rng)
            learnt = prefer(run.lm, optimizer, pairs, config, run.rng, beta=options["beta"], imitation=options["imitation"])
            run.encoded([one for pair in pairs for one in pair], config.epochs + 1)
            updates.save({**learnt, "pairs": len(pairs)}, "{pairs} pairs")
        return updates.report()


def pair_up(trajectories: Sequence[Trajectory], most: int, rng: np.random.Generator) -> list[Pair]:
    """Pair episodes that solved their task with episodes that failed on it.

    Every episode stands in one pair at most. Episodes with a fault are left out: they say nothing about the policy.

    Args:
        trajectories: Several episodes per task.
        most: Pairs per task.
        rng: Draws which success meets which failure.
    """
    tasks: dict[str, tuple[list[Trajectory], list[Trajectory]]] = {}
    for one in trajectories:
        if not one.masked.any() and any(step.generation.token_ids for step in one.steps):
            tasks.setdefault(one.task.id, ([], []))[one.success < 1.0].append(one)
    pairs = []
    for solved, failed in tasks.values():
        count = min(len(solved), len(failed), most)
        wins, losses = (rng.permutation(len(group))[:count] for group in (solved, failed))
        pairs += [(solved[win], failed[loss]) for win, loss in zip(wins, losses, strict=True)]
    return pairs


def prefer(
    lm: LanguageModel, optimizer: torch.optim.Optimizer, pairs: Sequence[Pair], config: Config, rng: np.random.Generator, *, beta: float, imitation: float
) -> dict[str, float]:
    """Take ``epochs`` × ``minibatches`` optimizer steps on pairs; return the means of what was measured.

    Args:
        lm: The model; changed in place. As it is now, it is the reference.
        optimizer: Over ``lm.trainable()``.
        pairs: May be empty.
        config: Uses ``epochs, minibatches, max_grad_norm, temperature, token_budget``.
        rng: Draws the minibatches.
        beta: Of ``losses.dpo``.
        imitation: Weight of the winners' negative log-likelihood, in nats per action token.
    """
    if not pairs:
        return {}
    lm.eval()
    flat = reference_logprobs(lm, [one for pair in pairs for one in pair], {}, config)
    anchors = np.array([one.sum() for one in flat]).reshape(-1, 2)  # (P, 2)
    sums: dict[str, float] = {}
    steps = 0
    for _ in range(config.epochs):
        for chosen in np.array_split(rng.permutation(len(pairs)), min(config.minibatches, len(pairs))):
            optimizer.zero_grad(set_to_none=True)
            mine = processes.share(chosen.tolist())
            minibatch, anchor = [pairs[index] for index in mine], anchors[mine]
            seen: dict[str, float] = {}
            for group in lm.in_step(micro_batches([max(pair, key=length) for pair in minibatch], max(1, config.token_budget // 2))):
                part = [minibatch[index] for index in group]
                for name, value in _backward(lm, part, anchor[group], config, beta, imitation, len(part) / len(chosen)).items():
                    seen[name] = seen.get(name, 0.0) + value
            processes.add_gradients(lm.trainable().values())
            seen = processes.add_numbers(seen)
            seen["grad_norm"] = sharding.clip_gradients(lm.trainable().values(), config.max_grad_norm)
            optimizer.step()
            for name, value in seen.items():
                sums[name] = sums.get(name, 0.0) + value
            steps += 1
    return {name: value / steps for name, value in sums.items()}


def _backward(lm: LanguageModel, pairs: Sequence[Pair], anchors: Floats, config: Config, beta: float, imitation: float, share: float) -> dict[str, float]:
    """Add the gradients of some pairs, (P, 2) with the anchors given, weighted by their share of the minibatch."""
    flat = [one for pair in pairs for one in pair]
    batch = collate(flat).to(lm.device)
    hidden = lm.hidden(batch.ids)[batch.token_at[:, 0], batch.token_at[:, 1]]
    logprobs, _ = action_logprobs(hidden, scaled(lm, config), batch.targets)  # (N,)
    counts = torch.tensor([sum(len(step.generation.token_ids) for step in one.steps) for one in flat], device=lm.device)
    owner = torch.repeat_interleave(torch.arange(len(flat), device=lm.device), counts)
    total = logprobs.new_zeros(len(flat)).index_add(0, owner, logprobs).view(-1, 2)  # (P, 2)
    reference = torch.from_numpy(anchors).to(total)
    losses, seen = dpo(total[:, 0], total[:, 1], reference[:, 0], reference[:, 1], beta)
    loss = losses.mean() - imitation * (total[:, 0] / counts.view(-1, 2)[:, 0]).mean()
    (share * loss).backward()
    return {name: share * float(value) for name, value in {"loss": loss.detach(), **seen}.items()}
