"""``trajectory-dpo``: explore, pair success with failure on the same task, prefer the former to the latter (DPO), repeat.

Iterative direct preference optimization (DPO) over whole episodes. One update is one iteration: the policy at its beginning is the
reference of the loss. Both episodes of a pair are the policy's own, so a task that is never solved, or always, teaches nothing; ``eto``
takes its winners from an expert.

The loss of pairs alone only asks for a margin: the winners may become less likely, as long as the losers do so faster. Over many
iterations the policy then forgets how to solve anything. So the likelihood of the winners is part of the loss. Source of both: Pang et al.,
"Iterative Reasoning Preference Optimization" (arXiv 2404.19733), which found that term crucial, with the weight that it uses: 1, per
action token.

``algo_options``: ``"beta"`` (0.1), how strongly the policy is held to that of the iteration's start; ``"imitation"`` (1.0),
weight of the winners' negative log-likelihood, in nats per action token; ``"pairs"`` (4), maximum number of pairs per task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..config import Config
from ..learning.optimizer import policy_optimizer
from ..learning.preference import Pair, prefer
from ..runs.loop import Loop
from ..runs.run import Run
from ..trajectory import Trajectory

__all__ = ["pair_up", "train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Learn from pairs of the policy's own episodes; arguments and report as for ``step_ppo.train``."""
    learning = config.learning
    with Run(config, out, resume=resume, console=console) as run:
        options = run.options(beta=0.1, imitation=1.0, pairs=4)
        optimizer = policy_optimizer(run.lm, learning.lr)
        loop = Loop(run, optimizer, reread=False, note="{pairs} pairs")
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
