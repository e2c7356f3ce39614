"""``Loop``: the order of a run, the same for all algorithms; each of them is what stands inside it.

    with Run(config, out, resume=resume, console=console) as run:
        loop = Loop(run, optimizer)          # warm start, restoring a checkpoint, evaluation before training
        for episodes in loop:                # new episodes of the newest policy, while the budget lasts
            ...                              # learn from them
            loop.log({"loss": loss})
        return loop.report()                 # evaluation after training, the run's last files

When the body of the loop is done, the update is logged and its checkpoint is written; a run that is killed goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ..parallel.profiling import metrics as phase_metrics
from ..rollouts.evaluate import Report, measure
from ..trajectory import Trajectory, in_hindsight
from .run import Run

__all__ = ["Keeps", "Loop"]


class Keeps(Protocol):
    """Tensors beside the model's that an algorithm needs to go on, such as a replay buffer."""

    def kept(self) -> dict[str, Tensor]:
        """Return them by name; none may be empty."""
        ...

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what ``kept`` returned."""
        ...


class Loop:
    """The updates of a run; iterating yields the episodes of one after the other.

    Args:
        run: Entered, and not begun yet.
        optimizer: Whose learning rate falls, and whose moments are saved. None: nothing is learnt after the warm start.
        keeps: What else is saved.
        source: Where episodes come from, with the rewards that are known in hindsight; by default the policy plays them.
        note: What the progress bar says after the success; its fields are names of what is logged.
    """

    def __init__(
        self,
        run: Run,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        keeps: Keeps | None = None,
        source: Callable[[], list[Trajectory]] | None = None,
        note: str = "reward {reward:.2f}",
    ) -> None:
        self.run, self.optimizer, self.keeps, self.note = run, optimizer, keeps, note
        self._logged: dict[str, float] = {}
        run.warm_start()
        if optimizer is None:
            return
        extra = run.open(optimizer)
        if keeps is not None and extra:
            keeps.restore(extra)
        if "before" not in run.state:
            run.evaluate("before")
        self._source = source if source is not None else self._player()
        self._bar = run.progress.add_task(run.name, total=run.config.run.updates, completed=run.update, note="")

    @property
    def begins(self) -> bool:
        """Whether no update has been done yet."""
        return not self.run.update

    def collect(self) -> list[Trajectory]:
        """Return new episodes outside of an update, for example to fit a critic before the first one."""
        return self._source()

    def __iter__(self) -> Iterator[list[Trajectory]]:
        run, optimizer = self.run, self.optimizer
        while optimizer is not None and run.goes_on:
            began = time.perf_counter()
            run.policy.forget()
            run.lm.profiler.take()
            run.cool_down(optimizer)
            episodes = self._source()
            played = time.perf_counter()
            self._logged = {}
            yield episodes
            run.count_passes()
            seconds = {"seconds_rollout": played - began, "seconds_update": time.perf_counter() - played}
            measured = {**measure(episodes), **self._logged, **seconds, **phase_metrics(run.lm.profiler.take())}
            run.save(optimizer, measured, None if self.keeps is None else self.keeps.kept())
            note = ("success {success:.2f}  " + self.note).format_map(_Measured(measured))
            run.progress.update(self._bar, completed=run.update, note=f"{note}  {measured['tokens_per_second']:,.0f} tokens/s")

    def log(self, measured: Mapping[str, float]) -> None:
        """Say what the algorithm measured in this update; logged beside what is measured of the episodes."""
        self._logged.update(measured)

    def report(self) -> dict[str, Any]:
        """Evaluate the trained policy, write the run's last files, and return the report: ``before``, ``after``, ``updates``, ``seconds`` …"""
        before = self.run.state.get("before")
        after, episodes = self.run.evaluate("after")
        return self.run.finish(Report(**before) if before is not None else None, after, episodes)

    def _player(self) -> Callable[[], list[Trajectory]]:
        suite = self.run.suite("train")
        envs = self.run.environments(suite, self.run.config.rollout.episodes)
        return lambda: in_hindsight(self.run.collect(envs, self.run.draw(suite)), envs[0].shaper)


class _Measured(dict[str, float]):
    """Lets a note name what was not measured in an update: it is shown as NaN."""

    def __missing__(self, name: str) -> float:
        return float("nan")
