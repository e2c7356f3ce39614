"""``eto``: explore, pair success with failure on the same task, prefer the former to the latter (DPO), repeat.

Source: Song et al., "Trial and Error: Exploration-Based Trajectory Optimization for LLM Agents" (arXiv 2403.02502). One
update is one of its iterations: the policy at its beginning is the reference of the preference loss. What it leaves out:
demonstrations as winners; a task that is never solved, or always, teaches nothing.

The loss of pairs alone only asks for a margin: the winners may become less likely, as long as the losers do so faster. Over many
iterations the policy then forgets how to solve anything. So the likelihood of the winners is part of the
loss, as in Pang et al., "Iterative Reasoning Preference Optimization" (arXiv 2404.19733), which found that term crucial, and
with the weight that they use: 1, per action token.

``algo_options``: ``"beta"`` (0.1), how strongly the policy is held to that of the iteration's start; ``"imitation"`` (1.0),
weight of the winners' negative log-likelihood, in nats per action token; 0 is plain ETO. ``"pairs"`` (4), maximum number of pairs
per task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from ..config import Config, LearningConfig
from ..learning.losses import dpo
from ..learning.optimizer import policy_optimizer
from ..learning.passes import Encoded, Passes
from ..learning.policy_gradient import reference_logprobs
from ..runs.loop import Loop
from ..runs.run import Run
from ..trajectory import Trajectory

__all__ = ["Pair", "pair_up", "prefer", "train"]

Pair = tuple[Trajectory, Trajectory]
"""Two episodes of one task: one that solved it, one that did not."""


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Learn from pairs of the policy's own episodes; arguments and report as for ``step_ppo.train``."""
    learning = config.learning
    with Run(config, out, resume=resume, console=console) as run:
        options = run.options(beta=0.1, imitation=1.0, pairs=4)
        optimizer = policy_optimizer(run.lm, learning.lr)
        loop = Loop(run, optimizer, note="{pairs} pairs")
        for episodes in loop:
            pairs = pair_up(episodes, options["pairs"], run.rng)
            loop.log({"pairs": len(pairs)})
            loop.log(prefer(run.passes, optimizer, pairs, learning, run.rng, beta=options["beta"], imitation=options["imitation"]))
        return loop.report()


def pair_up(trajectories: Sequence[Trajectory], max_pairs: int, rng: np.random.Generator) -> list[Pair]:
    """Pair episodes that solved their task with episodes that failed on it.

    Every episode is in at most one pair. Episodes with an infrastructure fault are left out: they say nothing about the policy.

    Args:
        trajectories: Several episodes per task.
        max_pairs: Maximum number of pairs per task.
        rng: Draws which success meets which failure.
    """
    tasks: dict[str, tuple[list[Trajectory], list[Trajectory]]] = {}
    for trajectory in trajectories:
        if not trajectory.masked.any() and any(step.generation.token_ids for step in trajectory.steps):
            tasks.setdefault(trajectory.task.id, ([], []))[trajectory.success < 1.0].append(trajectory)
    pairs = []
    for solved, failed in tasks.values():
        count = min(len(solved), len(failed), max_pairs)
        wins, losses = (rng.permutation(len(group))[:count] for group in (solved, failed))
        pairs += [(solved[win], failed[loss]) for win, loss in zip(wins, losses, strict=True)]
    return pairs


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
    for _ in range(learning.epochs):
        for chosen in np.array_split(rng.permutation(len(pairs)), min(learning.minibatches, len(pairs))):

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
