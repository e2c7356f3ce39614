"""``rft``: rejection sampling. Play with the current policy, keep what solved its task, imitate it, repeat.

Source: Yuan et al., "Scaling Relationship on Learning Mathematical Reasoning" (arXiv 2308.01825), with fresh samples of the
newest policy in every round, as in ReST (arXiv 2308.08998). What it leaves out: rewards other than the verdict, unless ``steps`` asks for
them; a pool of older samples, unless ``imitate`` asks for one.

``algo_options``: ``"shortest"`` (False): of the solved episodes of a task keep only the shortest. ``"steps"`` (False): keep the steps that earned
something, of every episode, instead of solved episodes: what is left of ``step-ppo`` without its policy gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..config import Config
from ..learning.again import Again, worth_imitating
from ..learning.imitation import imitate
from ..learning.optimizer import policy_optimizer
from ..runs.loop import Loop
from ..runs.run import Run
from ..trajectory import Trajectory

__all__ = ["accepted", "train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Imitate the policy's own solved episodes, round by round; arguments and report as for ``step_ppo.train``."""
    learning = config.learning
    with Run(config, out, resume=resume, console=console) as run:
        options = run.options(shortest=False, steps=False)
        which = "steps" if options["steps"] else "episodes"
        optimizer = policy_optimizer(run.lm, learning.lr)
        loop = Loop(run, optimizer, reread=False, note="kept {kept}")
        again = Again(run.passes, learning, run.state)
        for episodes in loop:
            kept = accepted(episodes, which, shortest=options["shortest"])
            losses = []
            for _ in range(learning.epochs if kept else 0):
                for chosen in np.array_split(run.rng.permutation(len(kept)), min(learning.minibatches, len(kept))):
                    batch = [kept[index] for index in chosen]
                    losses.append(imitate(run.passes, optimizer, batch, [worth_imitating(episode, which) for episode in batch]))
            loop.log({"loss": float(np.mean(losses)) if losses else float("nan"), "kept": len(kept)} | again(optimizer, episodes, run.rng))
        return loop.report()


def accepted(trajectories: Sequence[Trajectory], which: str = "episodes", *, shortest: bool = False) -> list[Trajectory]:
    """Return the episodes that solved their task without a fault, without duplicates.

    Args:
        trajectories: The episodes.
        which: ``"steps"``: return those without a fault in which a step earned something instead.
        shortest: Of each task, keep only the episode with the fewest steps; the first one wins a tie.
    """
    seen: set[tuple[str, tuple[tuple[int, ...], ...]]] = set()
    best: dict[str, Trajectory] = {}
    kept = []
    for trajectory in trajectories:
        task = trajectory.task.id
        key = (task, tuple(step.generation.token_ids for step in trajectory.steps))
        if trajectory.masked.any() or not worth_imitating(trajectory, which).any() or key in seen:
            continue
        seen.add(key)
        kept.append(trajectory)
        if task not in best or len(trajectory.steps) < len(best[task].steps):
            best[task] = trajectory
    return [trajectory for trajectory in kept if best[trajectory.task.id] is trajectory] if shortest else kept
