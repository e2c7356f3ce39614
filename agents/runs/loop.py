"""``Updates``: what the loops of ``rft``, ``eto`` and ``archer`` share, so that each file shows only how its algorithm learns.

updates = Updates(run, optimizer)              # the policy before training is evaluated here
for trajectories in updates.played():          # new episodes of the newest policy
    ...                                        # learn from them
    updates.save({"loss": loss}, "loss {loss:.2f}")
return updates.report()
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..rollouts.evaluate import Report, measure
from ..trajectory import Trajectory, in_hindsight

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .run import Run

__all__ = ["Updates"]


class Updates:
    """The updates of a run: playing, logging and saving around what an algorithm learns.

    Args:
        run: Its warm start is done and it is open.
        optimizer: Whose learning rate falls, and whose moments are saved.
    """

    def __init__(self, run: Run, optimizer: torch.optim.Optimizer) -> None:
        self.run, self.optimizer = run, optimizer
        if "before" not in run.state:
            run.evaluate("before")
        self._suite = run.suite("train")
        self._envs = run.environments(self._suite, run.config.episodes)
        self._bar = run.progress.add_task(run.name, total=run.config.updates, completed=run.update, note="")
        self._trajectories: list[Trajectory] = []
        self._begun = self._learning = 0.0

    def played(self) -> Iterator[list[Trajectory]]:
        """Yield the episodes of one update after the other while the budget lasts, with the rewards that are known in hindsight."""
        run = self.run
        while run.goes_on:
            self._begun = time.perf_counter()
            run.policy.forget()
            run.cool_down(self.optimizer)
            self._trajectories = in_hindsight(run.play(self._envs, run.draw(self._suite)), self._envs[0].shaper)
            run.played(self._trajectories)
            self._learning = time.perf_counter()
            yield self._trajectories

    def save(self, learnt: dict[str, float], note: str, extra: dict[str, Tensor] | None = None) -> None:
        """End an update: log it, write its checkpoint and move the progress bar.

        Args:
            learnt: What the algorithm measured; logged beside what is measured of the episodes and how long playing and learning took.
            note: What the bar says after the success; its fields are names of what is logged.
            extra: Tensors to keep, see ``Run.save``.
        """
        seconds = {"seconds_rollout": self._learning - self._begun, "seconds_update": time.perf_counter() - self._learning}
        measured = {**measure(self._trajectories), **learnt, **seconds}
        self.run.save(self.optimizer, measured, extra)
        self.run.progress.update(self._bar, completed=self.run.update, note=("success {success:.2f}  " + note).format_map(measured))

    def report(self) -> dict[str, Any]:
        """Evaluate the trained policy, write the run's last files, and return the report."""
        after, episodes = self.run.evaluate("after")
        return self.run.finish(Report(**self.run.state["before"]), after, episodes)
