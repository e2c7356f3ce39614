"""The evaluation of a run: its policy plays held-out tasks greedily, each process its share."""

from __future__ import annotations

from rich.progress import Progress

from steptool_env.rewards import RewardShaper
from steptool_env.tasks import TaskSuite

from ..config import Config
from ..models.language_model import LanguageModel
from ..parallel import processes
from ..rollouts.evaluate import Report, held_out, oracle_calls, rollout_tasks, summarize
from ..trajectory import Trajectory
from .policies import evaluated_policy

__all__ = ["evaluate_held_out"]


def evaluate_held_out(
    lm: LanguageModel, config: Config, suite: TaskSuite, shaper: RewardShaper, progress: Progress, label: str
) -> tuple[Report, list[Trajectory]]:
    """Play held-out tasks and measure them; all processes call it, and get the same.

    Args:
        lm: The model; sharded weights are gathered for it.
        config: Uses ``model.token_budget``, ``rollout.max_new_tokens``, ``run.eval_episodes``, ``run.eval_width`` and others.
        suite: The held-out tasks.
        shaper: For the reward that is reported.
        progress: Gets a bar.
        label: Name of the bar.
    """
    tasks = held_out(suite, config.run.eval_episodes)
    bar = progress.add_task(label, total=len(tasks), note="")
    solved = [0.0]

    def show(trajectory: Trajectory) -> None:
        solved[0] += trajectory.success
        done = int(progress.tasks[bar].completed) + 1
        progress.update(bar, completed=done, note=f"success {solved[0] / done:.2f}")

    with lm.whole():
        local = rollout_tasks(
            evaluated_policy(lm, config),
            suite,
            processes.share(tasks),
            shaper=shaper,
            max_steps=config.task.max_steps,
            width=config.run.eval_width,
            on_done=show,
        )
    trajectories = processes.gather(local)
    return summarize(trajectories, oracle_calls(suite, tasks)), trajectories
