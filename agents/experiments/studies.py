"""The studies of a search, kept by Optuna in one journal: for every row and seed, which settings were tried and how good they were.

    <out>/journal.log                    all studies; an interrupted search reads it and goes on
    <out>/cells/<row>-<seed>-<number>/   a trial: run/, the run's folder, and log.txt, what its process wrote
"""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from steptool_env.errors import missing_extra

from .grid import cell_folder
from .spaces import Range, Space, widened

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as fault:
    raise missing_extra("a search for settings", fault) from fault

__all__ = ["FINALIST", "PRESET", "RUNGS", "Studies", "TrialState", "reached", "runs_to_end", "success_of", "trial_folder"]

RUNGS = (0.25, 0.5)
"""Shares of a trial's environment steps after which it is compared with the others: the worse half of those that came so far end there."""
PRESET, FINALIST = "preset", "finalist"
"""Why a trial was not drawn: its settings are those of a method as it is known, or were among the best of another seed."""
STARTUP = 6
"""Trials of a study that are drawn at random, before those that were good say where to look."""


def trial_folder(out: Path, row: str, seed: int, number: int) -> Path:
    """Return the folder of a trial."""
    return cell_folder(out, f"{row} {seed}", number)


def reached(trial: FrozenTrial) -> float:
    """Return the share of its training after which a trial was last measured."""
    done = 1.0 if trial.state is TrialState.COMPLETE else 0.0
    return max([done, *(RUNGS[rung - 1] for rung in trial.intermediate_values)])


def runs_to_end(trial: FrozenTrial) -> bool:
    """Return whether a trial is trained to its end, however it compares with the others, and beside what its study may use."""
    return bool(trial.user_attrs.get(PRESET) or trial.user_attrs.get(FINALIST))


def success_of(trial: FrozenTrial) -> float:
    """Return the share of validation tasks that a trial solved at its end."""
    assert trial.value is not None, f"trial {trial.number} has not come to its end"
    return trial.value


class Studies:
    """All studies of a search.

    Args:
        out: The search's folder.
    """

    def __init__(self, out: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        out.mkdir(parents=True, exist_ok=True)
        self._storage = JournalStorage(JournalFileBackend(str(out / "journal.log")))
        self._known: dict[tuple[str, int], optuna.Study] = {}

    def of(self, row: str, seed: int) -> optuna.Study:
        """Return the study of a row and a seed."""
        if (row, seed) not in self._known:
            # 1, 2: the rungs are numbered so that each has twice the resource of the one before.
            pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
            options: dict[str, Any] = {"storage": self._storage, "direction": "maximize", "load_if_exists": True, "pruner": pruner}
            self._known[row, seed] = optuna.create_study(study_name=f"{row}/{seed}", **options)
        return self._known[row, seed]

    def trials(self, row: str, seed: int) -> list[FrozenTrial]:
        """Return the trials of a study, those that wait for their turn among them, in order."""
        return self.of(row, seed).get_trials(deepcopy=False)

    def trial(self, row: str, seed: int, number: int) -> Trial:
        """Return a trial that runs, to report what it measured."""
        return Trial(self.of(row, seed), self.trials(row, seed)[number]._trial_id)

    def ask(self, row: str, seed: int, space: Space) -> int:
        """Begin a trial: draw its settings, unless they wait there already, and return its number.

        Args:
            row: The row.
            seed: The study's seed.
            space: What may be chosen.
        """
        study = self.of(row, seed)
        number = sum(trial.state is not TrialState.WAITING for trial in self.trials(row, seed))
        # Seeded by the trial, not by the study: a search that goes on draws what it would have drawn.
        drawn_by = zlib.crc32(f"{row}/{seed}/{number}".encode())
        best = self.best(row, seed)
        with _quiet():
            study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=drawn_by)
            trial = study.ask()
            for name, choice in space.items():
                if isinstance(choice, Range):
                    choice = choice if best is None or name not in best.params else self._range(row, seed, name, choice, best.params[name])
                    trial.suggest_float(name, choice.low, choice.high, log=choice.log)
                else:
                    trial.suggest_categorical(name, choice)
        return trial.number

    def enqueue(self, row: str, seed: int, knobs: Mapping[str, Any], reason: str) -> None:
        """Have a trial with these settings next; what they leave open is drawn.

        Args:
            row: The row.
            seed: The study's seed.
            knobs: The settings.
            reason: ``PRESET`` or ``FINALIST``.
        """
        self.of(row, seed).enqueue_trial(dict(knobs), user_attrs={reason: True})

    def best(self, row: str, seed: int) -> FrozenTrial | None:
        """Return the best of the trials that were trained to their end; the first one wins a tie. None: there is none yet."""
        return next(iter(self.ranking(row, seed)), None)

    def ranking(self, row: str, seed: int) -> list[FrozenTrial]:
        """Return the trials of a study that were trained to their end, the best ones first; of equals, the first one."""
        done = [trial for trial in self.trials(row, seed) if trial.state is TrialState.COMPLETE]
        return sorted(done, key=lambda trial: (-success_of(trial), trial.number))

    def grown(self, row: str, seed: int) -> dict[str, list[float]]:
        """Return the ranges that grew because the best value lay at their edge: setting -> lower and upper end."""
        ranges: dict[str, list[float]] = self.of(row, seed).user_attrs.get("ranges", {})
        return dict(ranges)

    def _range(self, row: str, seed: int, name: str, choice: Range, best: float) -> Range:
        """Return the range of a setting as it is now, and remember that it grew."""
        known = self.grown(row, seed)
        present = replace(choice, low=known[name][0], high=known[name][1]) if name in known else choice
        wider = widened(present, best)
        if wider != present:
            self.of(row, seed).set_user_attr("ranges", {**known, name: [wider.low, wider.high]})
        return wider


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Optuna's warnings of options that may change, and of finalists from a range that grew in another study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

