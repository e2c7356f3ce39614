"""``step-ppo``: step-grained policy optimisation (StepTool, arXiv 2410.07745, section 3.2), online.

One update: play episodes with the current policy, estimate one advantage per *step* with GAE over steps, give it to every
token of that step's action, and improve the clipped PPO objective over action tokens for a few passes.

The same loop with other settings is ``ppo-final`` (``shaper="final"``, λ = 0.9), ``step-reinforce`` (no critic, λ = 1), ``rloo``,
``grpo`` and ``gigpo`` (``credit=``, and ``group`` episodes of each task): see ``ALGORITHM_SETTINGS`` in ``config.py``.

What the paper does not have: negative advantages count less than positive ones (``negative``; 1.0 is the paper's objective).
What it leaves out: early stopping, value clipping, adaptive KL. Tokens, masks and log-probabilities are
those of the sampling; nothing is rendered or tokenized again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..config import Config
from ..learning.advantages import Credited, assign_credit
from ..learning.critic import explained_variance
from ..learning.policy_gradient import anchored, improve, make_optimizer, warm_up_critic
from ..parallel.profiling import metrics as profile_metrics
from ..rollouts.evaluate import Report, measure
from ..runs.run import Run
from ..trajectory import in_hindsight

__all__ = ["train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Warm-start a policy, improve it update by update, and evaluate it on held-out tasks before and after.

    Args:
        config: The settings.
        out: The run's folder.
        resume: Go on from its last complete update.
        console: Where progress is shown; None shows none.

    Returns:
        The report: ``before`` and ``after`` as ``Report.as_dict()``, ``updates``, ``seconds``.
    """
    with Run(config, out, resume=resume, console=console) as run:
        config = run.config
        run.warm_start()
        optimizer = make_optimizer(run.lm, config.lr)
        run.open(optimizer)
        if "before" not in run.state:
            run.evaluate("before")
        suite = run.suite("train")
        envs = run.environments(suite, config.episodes)
        if not run.update and config.value_passes:
            first = in_hindsight(run.play(envs, run.draw(suite)), envs[0].shaper)
            run.played(first)
            warm_up_critic(run.lm, optimizer, assign_credit(first, config.gamma, 1.0), config, run.rng)
        bar = run.progress.add_task(run.name, total=config.updates, completed=run.update, note="")
        while run.goes_on:
            started = time.perf_counter()
            run.policy.forget()
            run.lm.profiler.take()
            run.cool_down(optimizer)
            trajectories = run.play(envs, run.draw(suite))
            trajectories = in_hindsight(trajectories, envs[0].shaper)
            run.played(trajectories)
            played = time.perf_counter()
            credited = assign_credit(trajectories, config.gamma, config.lam, config.credit, config.negative)
            credited = anchored(run.lm, credited, run.reference, config)
            learnt = improve(run.lm, optimizer, credited, config, run.rng)
            run.encoded(trajectories, config.epochs + bool(config.kl))
            learnt["explained_variance"] = _explained(credited)
            measured = {**measure(trajectories), **learnt, "seconds_rollout": played - started, "seconds_update": time.perf_counter() - played}
            measured |= profile_metrics(run.lm.profiler.take())
            run.save(optimizer, measured)
            speed = f"{measured['tokens_per_second']:,.0f} tokens/s"
            run.progress.update(bar, completed=run.update, note=f"success {measured['success']:.2f}  reward {measured['reward']:.2f}  {speed}")
        after, episodes = run.evaluate("after")
        return run.finish(Report(**run.state["before"]), after, episodes)


def _explained(credited: Credited) -> float:
    live = ~np.concatenate([one.masked for one in credited.trajectories])
    values = np.array([step.generation.value for one in credited.trajectories for step in one.steps])
    return explained_variance(values[live], np.concatenate(credited.returns)[live])
