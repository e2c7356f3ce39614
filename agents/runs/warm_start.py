"""The warm start of a run: before the model learns from rewards, it is fitted to an oracle's demonstrations."""

from __future__ import annotations

import numpy as np
from rich.progress import Progress

from steptool_env.env import StepToolEnv
from steptool_env.errors import InvalidArgument
from steptool_env.tasks import TaskSuite

from ..config import Config
from ..learning.batches import action_tokens, length
from ..learning.imitation import fit
from ..learning.passes import Passes
from ..parallel import processes
from ..policies.demonstrator import DemonstrationPolicy
from ..policies.tokens import TokenPolicy
from ..rollouts.collect import rollout

__all__ = ["imitate_oracle"]


def imitate_oracle(passes: Passes, policy: TokenPolicy, suite: TaskSuite, config: Config, progress: Progress) -> float:
    """Play demonstrations, fit the model to them, and return the mean loss of the last epoch, in nats per action token.

    Demonstrations that are longer than the model's context, and those of tasks that the suite calls unsolvable, are left out.

    Args:
        passes: Passes of the model, whose trainable parameters are changed in place.
        policy: Defines how the model's prompts and calls are rendered; it does not play.
        suite: Tasks to demonstrate; the suite must have solutions.
        config: Uses the part ``warm_start`` (except ``demo_options``, which the suite already has), ``task.max_steps`` and ``run.seed``.
        progress: Gets a progress bar for the warm start.

    Raises:
        InvalidArgument: No demonstration is left.
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
    shown = processes.gather(rollout(demonstrator, envs, tasks) if processes.is_main() else [])
    demonstrations = [one for one in shown if action_tokens(one) and length(one) <= passes.lm.context]
    if len(demonstrations) < len(shown):
        _say_what_is_left_out(len(shown), len(demonstrations), max(map(length, shown)), passes.lm.context, progress)

    def show(done: int, total: int, loss: float) -> None:
        progress.update(bar, completed=done, total=total, note=f"loss {loss:.3f}")

    return fit(passes, demonstrations, epochs=settings.demo_epochs, lr=settings.demo_lr, batch=settings.demo_batch, seed=seed, on_step=show)


def _say_what_is_left_out(shown: int, kept: int, longest: int, context: int, progress: Progress) -> None:
    about = f"{shown - kept} of {shown} demonstrations cannot be learned from: their task has no solution, or they are longer than the model's context"
    about += f" of {context} tokens (the longest has {longest})"
    if not kept:
        raise InvalidArgument(f"{about}; choose a model with a longer context, demo_options with shorter tasks, or begin without a warm start (demos=0)")
    progress.console.print(f"warning: {about}; they are left out", style="yellow", markup=False, highlight=False)
