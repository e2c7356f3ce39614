"""``rft``: rejection sampling. Play with the current policy, keep what solved its task, imitate it, go on.

Source: Yuan et al., "Scaling Relationship on Learning Mathematical Reasoning" (arXiv 2308.01825), with fresh samples of the
newest policy in every round, as in ReST (arXiv 2308.08998). What it leaves out: rewards other than the verdict, a pool of
older samples.

``algo_options``: ``"shortest"`` (False): of the solved episodes of a task keep only the shortest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..learning.imitation import backward
from ..parallel import sharding
from ..runs.loop import Updates
from ..trajectory import Trajectory

if TYPE_CHECKING:
    from rich.console import Console

    from ..config import Config

__all__ = ["accepted", "train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Imitate the policy's own solved episodes, round by round; arguments as for ``step_ppo.train``."""
    from ..runs.run import Run

    with Run(config, out, resume=resume, console=console) as run:
        config = run.config
        options = run.options(shortest=False)
        run.warm_start()
        parameters = list(run.lm.trainable().values())
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0)
        run.open(optimizer)
        updates = Updates(run, optimizer)
        for trajectories in updates.played():
            kept = accepted(trajectories, shortest=options["shortest"])
            losses = []
            for _ in range(config.epochs if kept else 0):
                for chosen in np.array_split(run.rng.permutation(len(kept)), min(config.minibatches, len(kept))):
                    losses.append(backward(run.lm, [kept[index] for index in chosen], config.token_budget))
                    sharding.clip_gradients(parameters, config.max_grad_norm)
                    optimizer.step()
            run.encoded(kept, config.epochs)
            updates.save({"loss": float(np.mean(losses)) if losses else float("nan"), "kept": len(kept)}, "kept {kept}")
        return updates.report()


def accepted(trajectories: Sequence[Trajectory], *, shortest: bool = False) -> list[Trajectory]:
    """Return the episodes that solved their task without a fault, every one of them once.

    Args:
        trajectories: What was played.
        shortest: Only the one with the fewest steps of each task; of several, the first.
    """
    seen: set[tuple[str, tuple[tuple[int, ...], ...]]] = set()
    best: dict[str, Trajectory] = {}
    kept = []
    for one in trajectories:
        said = (one.task.id, tuple(step.generation.token_ids for step in one.steps))
        if one.success < 1.0 or one.masked.any() or said in seen:
            continue
        seen.add(said)
        kept.append(one)
        if one.task.id not in best or len(one.steps) < len(best[one.task.id].steps):
            best[one.task.id] = one
    return [one for one in kept if best[one.task.id] is one] if shortest else kept
