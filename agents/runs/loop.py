"""``Loop``: the steps of a run, the same for all algorithms; an algorithm is the body of the loop.

    with Run(config, out, resume=resume, console=console) as run:
        loop = Loop(run, optimizer)          # warm start, restoring a checkpoint, evaluation before training
        for episodes in loop:                # new episodes of the newest policy, while the budget lasts
            ...                              # learn from them
            loop.log({"loss": loss})
        return loop.report()                 # evaluation after training, the run's last files

After the body of the loop, the update is logged and its checkpoint is written; a killed run resumes from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from steptool_env.errors import NotSupported

from ..parallel.profiling import metrics as phase_metrics
from ..rollouts.evaluate import Report, measure
from ..trajectory import Trajectory
from .memory import give_back
from .player import Player
from .run import Run
from .watching import tell_watchers

__all__ = ["Loop", "Stateful"]


class Stateful(Protocol):
    """Tensors besides the model's that an algorithm needs to resume, such as a replay buffer."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name; none may be empty."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""
        ...


class Loop:
    """The updates of a run; iterating yields the episodes of each update.

    Args:
        run: The run, already entered as a context manager.
        optimizer: Its learning rate is scheduled, and its moments are saved. None: no training after the warm start.
        stateful: Further state to save in checkpoints.
        source: Returns the episodes of an update, with hindsight rewards applied; by default the policy plays them.
        reread: Give episodes that servers played the learner's values and log-probabilities, and importance weights, see
            ``learning/reread.py``. An algorithm that reads none of these saves a pass without.
        note: Format string for the progress bar, shown after the success; its fields are names of logged metrics.
    """

    def __init__(
        self,
        run: Run,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        stateful: Stateful | None = None,
        source: Callable[[], list[Trajectory]] | None = None,
        reread: bool = True,
        note: str = "reward {reward:.2f}",
    ) -> None:
        self.run, self.optimizer, self.stateful, self.note = run, optimizer, stateful, note
        self._logged: dict[str, float] = {}
        if source is not None and run.config.rollout.overlap:
            raise NotSupported(f"{run.name} has its own way to play, and cannot do so ahead: set overlap to 0")
        run.warm_start()
        give_back()
        if optimizer is None:
            return
        extra = run.open(optimizer)
        if stateful is not None and extra:
            stateful.load_state_dict(extra)
        if "before" not in run.state:
            run.evaluate("before")
        self._source = source
        self._player = Player(run, reread=reread)
        self._bar = run.progress.add_task(run.name, total=run.config.run.updates, completed=run.update, note="")

    @property
    def at_start(self) -> bool:
        """Whether the first update is still to come."""
        return not self.run.update and self.run.has_budget

    def collect(self) -> list[Trajectory]:
        """Return new episodes outside of an update, for example to fit a critic before the first update."""
        if self._source is not None:
            return self._source()
        return self._player.read(self._player.now())

    def __iter__(self) -> Iterator[list[Trajectory]]:
        run, optimizer = self.run, self.optimizer
        while optimizer is not None and run.has_budget:
            started = time.perf_counter()
            run.lm.profiler.take()
            run.anneal(optimizer)
            run.seed_update()
            if self._source is None:
                episodes = self._player.next()
            else:
                run.policy.forget()
                episodes = self._source()
            collected = time.perf_counter()
            episodes = self._player.read(episodes) if self._source is None else episodes
            self._logged = {}
            yield episodes
            run.count_passes()
            give_back()
            learned = time.perf_counter()
            self._player.finish()
            seconds = {"seconds_rollout": collected - started + time.perf_counter() - learned, "seconds_update": learned - collected}
            measured = {**measure(episodes), **self._player.measured, **self._logged, **seconds, **phase_metrics(run.lm.profiler.take())}
            if run.measure is not None:
                measured |= run.measure(episodes, measured)
            run.save(optimizer, measured, None if self.stateful is None else self.stateful.state_dict())
            note = ("success {success:.2f}  " + self.note).format_map(_Measured(measured))
            run.progress.update(self._bar, completed=run.update, note=f"{note}  {measured['tokens_per_second']:,.0f} tokens/s")
            tell_watchers(run)

    def log(self, measured: Mapping[str, float]) -> None:
        """Add the algorithm's metrics of this update; they are logged together with those of the episodes."""
        self._logged.update(measured)

    def report(self) -> dict[str, Any]:
        """Evaluate the trained policy, write the run's last files, and return the report: ``before``, ``after``, ``updates``, ``seconds`` …"""
        before = self.run.state.get("before")
        after, episodes = self.run.evaluate("after")
        return self.run.finish(Report(**before) if before is not None else None, after, episodes)


class _Measured(dict[str, float]):
    """Metrics for the note; one that is missing in an update is shown as NaN."""

    def __missing__(self, name: str) -> float:
        return float("nan")
