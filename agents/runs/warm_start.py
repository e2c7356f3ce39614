"""The warm start of a run: an oracle plays, and the model is fitted to what it did before it learns from rewards."""

from __future__ import annotations

import numpy as np
from rich.progress import Progress

from steptool_env.env import StepToolEnv
from steptool_env.tasks import TaskSuite

from ..config import Config
from ..learning.imitation import fit
from ..models.language_model import LanguageModel
from ..parallel import processes
from ..policies.demonstrator import DemonstrationPolicy
from ..policies.local import LMPolicy
from ..policies.served import ServedPolicy
from ..rollouts.collect import rollout

__all__ = ["imitate_oracle"]


def imitate_oracle(lm: LanguageModel, policy: LMPolicy | ServedPolicy, suite: TaskSuite, config: Config, progress: Progress) -> float:
    """Play demonstrations, fit the model to them, and return the mean loss of the last pass, in nats per action token.

    Args:
        lm: The model; its trainable parameters are changed in place.
        policy: Says how the model reads and writes; it does not play.
        suite: Whose tasks are demonstrated; it must know their solutions.
        config: Uses ``max_grad_norm, max_steps, seed, token_budget`` and the settings whose names begin with ``demo``, but
            for ``demo_options``, which are those of the suite.
        progress: Gets a bar of its own.
    """
    bar = progress.add_task("warm start", total=None, note="playing demonstrations")
    # A generator of its own: a run that is resumed after its warm start does not come by here.
    rng, count = np.random.default_rng([config.seed, 1]), config.demos
    tasks = (rng.permutation(len(suite))[:count] if count <= len(suite) else rng.integers(len(suite), size=count)).tolist()
    # Imitation looks at no reward.
    envs = [StepToolEnv(suite, "final", max_steps=config.max_steps) for _ in range(min(64, count))]
    # Played once, for all processes.
    demonstrations = processes.gather(rollout(DemonstrationPolicy(policy, config.demo_mistakes, rng), envs, tasks) if processes.is_main() else [])

    def show(done: int, total: int, loss: float) -> None:
        progress.update(bar, completed=done, total=total, note=f"loss {loss:.3f}")

    return fit(
        lm,
        demonstrations,
        epochs=config.demo_epochs,
        lr=config.demo_lr,
        batch=config.demo_batch,
        token_budget=config.token_budget,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        on_step=show,
    )
