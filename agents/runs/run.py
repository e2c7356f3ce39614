"""``Run``: a training run. It has what all algorithms share: tasks, model, rollout policy, budget, checkpoints, resuming, evaluation.

``loop.py`` calls these in order; ``folder.py`` describes the files that a run writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from steptool_env.env import StepToolEnv
from steptool_env.errors import UnknownName
from steptool_env.rewards import load_state, set_training_progress, state_of
from steptool_env.tasks import TaskSuite

from ..config import Config
from ..credit.loading import load_scheme
from ..learning.batches import length
from ..learning.optimizer import set_learning_rate
from ..learning.passes import Passes
from ..learning.schedule import learning_rate, share_done
from ..models.loading import pick_device
from ..parallel import processes, sharding
from ..policies.base import Policy
from ..policies.tokens import draw_seeds
from ..rollouts.collect import rollout
from ..rollouts.evaluate import Report
from ..show.progress import run_bars
from ..trajectory import Trajectory
from .budget import is_left, limits
from .checkpoint import (
    flatten_optimizer,
    list_checkpoints,
    load_checkpoint,
    prefixed,
    restore_optimizer,
    rng_state,
    save_checkpoint,
    set_rng_state,
    unprefixed,
)
from .evaluation import play_held_out
from .fitting import check_budgets
from .folder import (
    check_belongs,
    has_warm_start,
    load_weights,
    open_folder,
    read_config,
    read_warm_loss,
    read_warm_start,
    write_config,
    write_warm_start,
)
from .measures import own_measure
from .plays import check_demonstrations, shared_tasks, what_it_plays
from .policies import training_model, training_policy
from .results import write_before, write_report
from .resuming import check_resumed, identity
from .rewards import training_shaper
from .tasks import suite_of
from .trackers import Metrics, tracker_names
from .warm_start import imitate_oracle

__all__ = ["Run"]

_SEED_STRIDE = 1_000_003
"""Difference between the sampling seeds of consecutive processes."""


class Run:
    """A run in progress; a context manager.

    Args:
        config: The settings. With ``resume``, they must equal those of the folder, except those that may change, see ``resuming.py``.
        out: The run's folder.
        resume: Continue from the folder's last checkpoint.
        console: Where progress is shown; None shows none.

    Raises:
        CheckpointError: The folder holds a run and ``resume`` is not set, or the other way round, or its files are corrupt, or another
            process is writing it.
        InvalidArgument: A setting differs from the resumed run's and must not.
    """

    def __init__(self, config: Config, out: str | os.PathLike[str], *, resume: bool = False, console: Console | None = None) -> None:
        out = Path(out)
        processes.start(cpu=pick_device(config.model.device, config.model.name).type == "cpu")
        self._lock = open_folder(out, resume=resume) if processes.is_main() else None
        try:
            processes.wait()
            self._prepare(config, out, resume, console)
        except BaseException:
            self._unlock()
            raise

    def _prepare(self, config: Config, out: Path, resume: bool, console: Console | None) -> None:
        """Make everything that the run needs; mistakes in the settings surface here, before anything is written."""
        self.out, self.resume, self.config = out, resume, config
        if resume:
            check_resumed(read_config(out), config, out)
        self.console = console if console is not None and processes.is_main() else Console(quiet=True)
        self.update = 0
        """Updates done."""
        self.state: dict[str, Any] = {}
        """The state besides tensors, as JSON; saved with every checkpoint."""
        self.started = time.perf_counter()
        tracker_names(config.run.report_to)
        self.shaper = training_shaper(config)
        load_scheme(config.learning.credit)
        self.measure = own_measure(config.run.measure)
        """Returns the user's own metrics of an update; None: there are none."""
        check_demonstrations(self.suite, config)
        self.plays = what_it_plays(config, self.suite("train"), self.suite("test"))
        """Which tasks these are, in words."""
        self.console.print(self.plays, markup=False, highlight=False, soft_wrap=True)
        if shared := shared_tasks(self.suite("train"), self.suite("test")):
            self.console.print(f"warning: {shared}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        self.lm = training_model(config)
        temperature, norm = config.rollout.temperature, config.learning.max_grad_norm
        self.passes = Passes(self.lm, token_budget=config.model.token_budget, temperature=temperature, max_grad_norm=norm)
        torch.manual_seed(self._sampling_seed)  # dropout in the warm start draws from the global generator
        self.policy = training_policy(self.lm, config, out, seed=config.run.seed)
        self.rng = np.random.default_rng(config.run.seed)
        self.reference: dict[str, Tensor] = {}
        """The trainable weights after the warm start, by name."""
        if not resume:
            check_budgets(suite_of(config, "train", failing=False), self.policy, config, self.lm.context, self.console)
            if processes.is_main():
                write_config(out, config)
        self.metrics: Metrics | None = None
        self.progress = run_bars(self.console)

    def __enter__(self) -> Run:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()
        if self.metrics is not None:
            self.metrics.close()
        self.policy.close()  # what is played ahead is of no use any more
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    @property
    def name(self) -> str:
        """The algorithm's name in the progress bar."""
        return Path(self.config.learning.algo).stem

    @property
    def _sampling_seed(self) -> int:
        return self.config.run.seed + _SEED_STRIDE * processes.rank()

    def options(self, **defaults: Any) -> dict[str, Any]:
        """Return the algorithm's own settings, ``algo_options`` over these defaults; raises ``UnknownName`` for an option that has no default."""
        chosen = self.config.learning.algo_options
        for name in chosen:
            if name not in defaults:
                raise UnknownName(f"option of {self.name}", name, defaults)
        return {**defaults, **chosen}

    # ---------------------------------------------------------------- tasks and episodes
    def suite(self, part: str) -> TaskSuite:
        """Return the run's suite with its part ``"train"``, ``"demonstrations"`` or ``"test"``."""
        return suite_of(self.config, part)

    def environments(self, suite: TaskSuite, count: int) -> list[StepToolEnv]:
        """Return environments of the suite with the run's shaper."""
        return [StepToolEnv(suite, self.shaper, max_steps=self.config.task.max_steps) for _ in range(count)]

    def draw(self, suite: TaskSuite) -> list[int]:
        """Draw the tasks of an update: ``episodes`` of them, each ``group`` times."""
        rollout = self.config.rollout
        tasks = self.rng.integers(len(suite), size=rollout.episodes // rollout.group)
        return [int(task) for task in tasks for _ in range(rollout.group)]

    def collect(self, envs: Sequence[StepToolEnv], tasks: Sequence[int], policy: Policy | None = None) -> list[Trajectory]:
        """Play one episode of every task and count its cost. Each process plays its share; all get all episodes, in order.

        Args:
            envs: Environments of one suite.
            tasks: Indices into the suite.
            policy: Who plays; by default the policy that learns.
        """
        if policy is None:
            self.deal_seeds(len(tasks))
        with nullcontext() if policy is None and self.config.rollout.servers else self.lm.whole():
            local = rollout(policy if policy is not None else self.policy, envs, processes.share(tasks))
        return self.gathered(local)

    def deal_seeds(self, episodes: int) -> None:
        """Draw the seeds of the policy's next episodes; each process gets its share, so that their number does not change what is sampled."""
        self.policy.seeds.clear()
        self.policy.seeds.extend(processes.share(draw_seeds(self.policy.generator, episodes)))

    def gathered(self, local: Sequence[Trajectory]) -> list[Trajectory]:
        """Return the episodes of all processes, in the order of the tasks, from each one's share, and count their cost."""
        trajectories = processes.gather(local)
        self.spent["env_steps"] += sum(len(trajectory.steps) for trajectory in trajectories)
        self.spent["model_tokens"] += sum(map(length, trajectories))
        return trajectories

    # ---------------------------------------------------------------- budget
    @property
    def spent(self) -> dict[str, int]:
        """Budget used since the warm start: ``env_steps``, and ``model_tokens`` read, written or trained on."""
        spent: dict[str, int] = self.state.setdefault("spent", {"env_steps": 0, "model_tokens": 0})
        return spent

    def count_passes(self) -> None:
        """Add the tokens trained on since the last call to ``spent``."""
        self.spent["model_tokens"] += self.passes.tokens
        self.passes.tokens = 0

    @property
    def has_budget(self) -> bool:
        """Whether there is budget for another update."""
        return is_left(self._used, self.config.run)

    @property
    def has_budget_after_this(self) -> bool:
        """Whether there will be budget for an update after the next one, as far as is known now."""
        return is_left({**self._used, "updates": self.update + 1}, self.config.run)

    @property
    def _used(self) -> dict[str, int]:
        return {"updates": self.update, **self.spent}

    def anneal(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of the next update, and pass the share of training done to the shaper's schedules."""
        done = share_done(self.update, self._used, limits(self.config.run))
        set_training_progress(self.shaper, done)
        set_learning_rate(optimizer, learning_rate(self.config.learning.lr, self.config.learning.lr_end, done))

    def seed_update(self) -> None:
        """Seed torch's generator for this update in all processes but the main one, whose generators the checkpoints hold.

        In every update, not only in the first one after resuming: a run that is never stopped must draw the same numbers.
        """
        if self.update and not processes.is_main():
            torch.manual_seed(self._sampling_seed + self.update)

    # ---------------------------------------------------------------- warm start
    def warm_start(self) -> None:
        """Fit the model to oracle demonstrations, or load the weights of a warm start that is already done."""
        done = has_warm_start(self.out)
        processes.wait()  # every process must have checked before the main process writes the file
        if done:
            load_weights(self.lm, read_warm_start(self.out, self.config), self.out)
            loss = read_warm_loss(self.out)
        else:
            loss = None
            if self.config.warm_start.demos and self.config.warm_start.demo_epochs:
                loss = imitate_oracle(self.passes, self.policy, self.suite("demonstrations"), self.config, self.progress)
                self.passes.tokens = 0  # the budget counts from the end of the warm start
            weights = sharding.joined(self.lm.trainable())
            if processes.is_main():
                write_warm_start(self.out, weights, self.config, loss)
            processes.wait()
        if loss is not None:
            self.state["warm_loss"] = loss
        self.reference = {name: parameter.detach().clone() for name, parameter in self.lm.trainable().items()}

    # ---------------------------------------------------------------- saving and resuming
    def open(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Restore the last checkpoint, if the run resumes and has one, and open the metrics; return the ``extra`` tensors given to ``save``."""
        extra: dict[str, Tensor] = {}
        if self.resume and list_checkpoints(self.out):
            self.update, tensors, state = load_checkpoint(self.out)
            check_belongs(state, self.config, self.out)
            load_weights(self.lm, unprefixed("model", tensors), self.out)
            restore_optimizer(optimizer, unprefixed("optimizer", tensors), state["optimizer"])
            set_rng_state(unprefixed("random", tensors), state["random"], self._generators)
            extra = {name: tensor.to(self.lm.device) for name, tensor in unprefixed("extra", tensors).items()}
            self.state = state["run"]
            load_state(self.shaper, self.state.get("shaper"))
        processes.wait()
        if not processes.is_main():
            return extra
        if self.resume:  # some settings may change on resuming; the next --resume must see the new ones
            write_config(self.out, self.config)
        run = self.config.run
        self.metrics = Metrics(self.out, run.report_to, resume_at=self.update if self.resume else None, settings=self.config.flat())
        return extra

    def save(self, optimizer: torch.optim.Optimizer, measured: dict[str, float], extra: dict[str, Tensor] | None = None) -> None:
        """Log an update and write its checkpoint; after this, a kill loses nothing of the update.

        Args:
            optimizer: The optimizer, whose moments are saved.
            measured: Metrics to log.
            extra: Further tensors that the algorithm needs to resume, such as a replay buffer; ``open`` returns them.
        """
        self.update += 1
        moments, optimizer_state = flatten_optimizer(optimizer)
        weights = sharding.joined(prefixed("model", self.lm.trainable()) | prefixed("optimizer", moments))
        if not processes.is_main():
            return
        assert self.metrics is not None
        self.metrics.log(self.update - 1, {**measured, **self.spent})
        self.state["shaper"] = state_of(self.shaper)
        random, random_state = rng_state(self._generators)
        save_checkpoint(
            self.out,
            self.update,
            tensors=weights | prefixed("random", random) | prefixed("extra", extra or {}),
            state={"optimizer": optimizer_state, "random": random_state, "run": self.state, "settings": identity(self.config)},
        )

    @property
    def _generators(self) -> dict[str, Any]:
        return {"tasks": self.rng, "sampling": self.policy.generator}

    # ---------------------------------------------------------------- evaluation
    def evaluate(self, label: str) -> tuple[Report, list[Trajectory]]:
        """Play held-out tasks greedily; the report is stored in ``state`` under the label, so that a resumed run has it."""
        report, trajectories = play_held_out(self.lm, self.suite("test"), self.config, self.shaper, self.progress, label)
        self.state[label] = report.as_dict()
        if label == "before" and processes.is_main():
            write_before(self.out, trajectories)
        return report, trajectories

    def finish(self, before: Report | None, after: Report, trajectories: list[Trajectory]) -> dict[str, Any]:
        """Write ``trajectories.jsonl``, ``report.json``, ``report.html`` and the learning curve; return the report."""
        report: dict[str, Any] = {
            "run": str(self.out),
            "algo": self.config.learning.algo,
            "plays": self.plays,
            "before": before.as_dict() if before is not None else None,
            "after": after.as_dict(),
            "updates": self.update,
            **self.spent,
            "seconds": round(time.perf_counter() - self.started, 1),
        }
        if processes.is_main():
            write_report(self.out, self.config, report, trajectories)
        return report
