"""The evaluation of a run: its policy plays held-out tasks, greedily and with the rewards of its shaper."""

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

__all__ = ["play_held_out"]


def play_held_out(
    lm: LanguageModel, suite: TaskSuite, config: Config, shaper: RewardShaper, progress: Progress, label: str
) -> tuple[Report, list[Trajectory]]:
    """Play ``run.eval_episodes`` tasks; each process plays its share, and all get all episodes, in order.

    Args:
        lm: The model.
        suite: The held-out tasks.
        config: Uses the parts ``task``, ``model``, ``rollout`` and ``run``.
        shaper: For the rewards; its running statistics are not updated.
        progress: Gets a bar.
        label: What the bar is called.
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
