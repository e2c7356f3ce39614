"""The warm start of a run: an oracle plays, and the model is fitted to what it did before it learns from rewards."""

from __future__ import annotations

import numpy as np
from rich.progress import Progress

from steptool_env.env import StepToolEnv
from steptool_env.tasks import TaskSuite

from ..config import Config
from ..learning.imitation import fit
from ..learning.passes import Passes
from ..parallel import processes
from ..policies.demonstrator import DemonstrationPolicy
from ..policies.tokens import TokenPolicy
from ..rollouts.collect import rollout

__all__ = ["imitate_oracle"]


def imitate_oracle(passes: Passes, policy: TokenPolicy, suite: TaskSuite, config: Config, progress: Progress) -> float:
    """Play demonstrations, fit the model to them, and return the mean loss of the last pass, in nats per action token.

    Args:
        passes: Of the model; its trainable parameters are changed in place.
        policy: Says how the model reads and writes; it does not play.
        suite: Whose tasks are demonstrated; it must know their solutions.
        config: Uses the part ``warm_start`` (but for ``demo_options``, which are those of the suite), ``task.max_steps`` and ``run.seed``.
        progress: Gets a bar of its own.
    """
    bar = progress.add_task("warm start", total=None, note="playing demonstrations")
    # A generator of its own: a run that is resumed after its warm start does not come by here.
    wanted, seed = config.warm_start, config.run.seed
    rng, count = np.random.default_rng([seed, 1]), wanted.demos
    tasks = (rng.permutation(len(suite))[:count] if count <= len(suite) else rng.integers(len(suite), size=count)).tolist()
    # Imitation looks at no reward.
    envs = [StepToolEnv(suite, "final", max_steps=config.task.max_steps) for _ in range(min(64, count))]
    # Played once, for all processes.
    demonstrator = DemonstrationPolicy(policy, wanted.demo_mistakes, rng)
    demonstrations = processes.gather(rollout(demonstrator, envs, tasks) if processes.is_main() else [])

    def show(done: int, total: int, loss: float) -> None:
        progress.update(bar, completed=done, total=total, note=f"loss {loss:.3f}")

    return fit(passes, demonstrations, epochs=wanted.demo_epochs, lr=wanted.demo_lr, batch=wanted.demo_batch, seed=seed, on_step=show)
