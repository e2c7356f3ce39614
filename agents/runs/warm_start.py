"""The warm start of a run: before the model learns from rewards, it is fitted to an oracle's demonstrations."""

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
    """Play demonstrations, fit the model to them, and return the mean loss of the last epoch, in nats per action token.

    Args:
        passes: Passes of the model, whose trainable parameters are changed in place.
        policy: Defines how the model's prompts and calls are rendered; it does not play.
        suite: Tasks to demonstrate; the suite must have solutions.
        config: Uses the part ``warm_start`` (except ``demo_options``, which the suite already has), ``task.max_steps`` and ``run.seed``.
        progress: Gets a progress bar for the warm start.
    """
    bar = progress.add_task("warm start", total=None, note="playing demonstrations")
    # A separate generator: a run that is resumed after its warm start skips this function.
    settings, seed = config.warm_start, config.run.seed
    rng, count = np.random.default_rng([seed, 1]), settings.demos
    tasks = (rng.permutation(len(suite))[:count] if count <= len(suite) else rng.integers(len(suite), size=count)).tolist()
    # Imitation uses no rewards.
    envs = [StepToolEnv(suite, "final", max_steps=config.task.max_steps) for _ in range(min(64, count))]
    # The main process plays for all processes.
    demonstrator = DemonstrationPolicy(policy, settings.demo_mistakes, rng)
    demonstrations = processes.gather(rollout(demonstrator, envs, tasks) if processes.is_main() else [])

    def show(done: int, total: int, loss: float) -> None:
        progress.update(bar, completed=done, total=total, note=f"loss {loss:.3f}")

    return fit(passes, demonstrations, epochs=settings.demo_epochs, lr=settings.demo_lr, batch=settings.demo_batch, seed=seed, on_step=show)
