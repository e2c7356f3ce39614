"""``step-ppo``: step-grained policy optimization (StepTool, arXiv 2410.07745, section 3.2), online.

One update: play episodes with the current policy, estimate one advantage per *step* with GAE over steps, give it to every
token of that step's action, and improve the clipped PPO objective over action tokens for a few epochs. Then imitate again what was good in
the episodes of the last updates.

The same loop with other settings is ``ppo-final`` (``shaper="final"``, λ = 0.9), ``turn-ppo`` (``ratio="step"``), ``step-reinforce``
(no critic, λ = 1), and ``rloo``, ``grpo``, ``process-grpo``, ``mt-grpo``, ``gigpo`` and ``gigpo-std`` (``credit=``, and ``group`` episodes
of each task): see ``ALGORITHMS``.

What the paper does not have: negative advantages count less than positive ones (``negative``; 1.0 is the paper's objective), and what was good is
imitated again (``imitate``; "none" is the paper's).
What it leaves out: early stopping, value clipping, adaptive KL. Tokens, masks and log-probabilities are those
of the sampling; nothing is rendered or tokenized again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from ..config import Config
from ..learning.advantages import assign_credit
from ..learning.again import Again
from ..learning.critic import explained_by_values, warm_up_critic
from ..learning.optimizer import policy_optimizer
from ..learning.policy_gradient import improve
from ..runs.loop import Loop
from ..runs.run import Run

__all__ = ["train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Warm-start a policy, improve it update by update, and evaluate it on held-out tasks before and after.

    Args:
        config: The settings.
        out: The run's folder.
        resume: Continue from its last complete update.
        console: Where progress is shown; None shows none.

    Returns:
        The report: ``before`` and ``after`` as ``Report.as_dict()``, ``updates``, ``seconds``.
    """
    learning = config.learning
    with Run(config, out, resume=resume, console=console) as run:
        optimizer = policy_optimizer(run.lm, learning.lr)
        loop = Loop(run, optimizer)
        if loop.at_start and learning.value_passes:
            first = assign_credit(loop.collect(), learning.gamma, 1.0)
            warm_up_critic(run.passes, optimizer, first, count=learning.value_passes, rng=run.rng)
        again = Again(run.passes, learning, run.state)
        for episodes in loop:
            credited = assign_credit(episodes, learning.gamma, learning.lam, learning.credit, learning.negative)
            loop.log(improve(run.passes, optimizer, credited, learning, run.rng, run.reference))
            loop.log({"explained_variance": explained_by_values(episodes, learning.gamma)} | again(optimizer, episodes, run.rng))
        return loop.report()
