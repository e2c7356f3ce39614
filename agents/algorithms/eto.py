"""``eto``: explore, pair every failure with an expert's episode of the same task, prefer the expert's (DPO), repeat.

Source: Song et al., "Trial and Error: Exploration-Based Trajectory Optimization for LLM Agents" (arXiv 2403.02502), sections 3.2 and
3.3. One update is one of its iterations: the policy at its beginning is the reference of the loss. The expert is the suite's own solution,
written as the model has to write it. The expert's steps and tokens count against the run's budget like the policy's own.

What it leaves out: pairs of two own episodes, which the paper adds in an ablation (see ``trajectory-dpo``).

``algo_options``: ``"beta"`` (0.1), how strongly the policy is held to that of the iteration's start; ``"imitation"`` (0.0), weight of
the expert's negative log-likelihood, in nats per action token, which the paper does not have (see ``trajectory-dpo``); ``"pairs"`` (4),
maximum number of pairs per task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from steptool_env.errors import NotSupported

from ..config import Config
from ..learning.batches import length
from ..learning.optimizer import policy_optimizer
from ..learning.preference import Pair, prefer
from ..policies.demonstrator import DemonstrationPolicy
from ..runs.loop import Loop
from ..runs.rewards import labeled
from ..runs.run import Run
from ..trajectory import Trajectory

__all__ = ["pair_with_expert", "train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Learn from pairs of an expert's episode and the policy's own failure; arguments and report as for ``step_ppo.train``.

    Raises:
        NotSupported: The suite has no solutions.
    """
    learning = config.learning
    with Run(config, out, resume=resume, console=console) as run:
        options = run.options(beta=0.1, imitation=0.0, pairs=4)
        suite = run.suite("train")
        if not suite.has_solution:
            raise NotSupported(f"eto needs an expert, and suite {suite.name!r} knows no solutions; trajectory-dpo learns from own episodes alone")
        envs = run.environments(suite, config.rollout.episodes)
        tasks: dict[str, int] = {}  # id -> index, of the newest update

        def explore() -> list[Trajectory]:
            drawn = run.draw(suite)
            tasks.clear()
            tasks.update({suite[index].id: index for index in drawn})
            return labeled(run.collect(envs, drawn), envs[0].shaper)

        optimizer = policy_optimizer(run.lm, learning.lr)
        loop = Loop(run, optimizer, source=explore, note="{pairs} pairs")
        for episodes in loop:
            failed = dict.fromkeys(episode.task.id for episode in episodes if _failed(episode))
            shown = run.collect(envs, [tasks[task] for task in failed], DemonstrationPolicy(run.policy))
            expert = {episode.task.id: episode for episode in shown if episode.success == 1.0 and length(episode) <= run.lm.context}
            pairs = pair_with_expert(episodes, expert, options["pairs"])
            loop.log({"pairs": len(pairs)})
            loop.log(prefer(run.passes, optimizer, pairs, learning, run.rng, beta=options["beta"], imitation=options["imitation"]))
        return loop.report()


def pair_with_expert(trajectories: Sequence[Trajectory], expert: Mapping[str, Trajectory], max_pairs: int) -> list[Pair]:
    """Pair episodes that failed with the expert's episode of their task.

    Episodes with an infrastructure fault are left out: they say nothing about the policy.

    Args:
        trajectories: The policy's episodes.
        expert: Task id -> the expert's episode; a task that is missing makes no pair.
        max_pairs: Maximum number of pairs per task; the first failures are taken.
    """
    count: Counter[str] = Counter()
    pairs = []
    for trajectory in trajectories:
        task = trajectory.task.id
        if _failed(trajectory) and task in expert and count[task] < max_pairs:
            count[task] += 1
            pairs.append((expert[task], trajectory))
    return pairs


def _failed(trajectory: Trajectory) -> bool:
    return trajectory.success < 1.0 and not trajectory.masked.any() and any(step.generation.token_ids for step in trajectory.steps)
