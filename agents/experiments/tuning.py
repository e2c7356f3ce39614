"""The search for the settings of every row of a table: the same environment steps for each, on tasks that are neither trained nor tested on.

What a row may choose is in ``spaces.py``. A trial is a training run with the table's own budget; it has a seed that the table does not use, and
is scored by the success of greedy play on validation tasks. Every row has one study for each of ``SEEDS``: its first trials are the presets, each
trained to its end. Optuna draws the others, and those that are not among the best half of what came so far after a quarter or half of their training
end there (successive halving, Jamieson & Talwalkar 2016, as Optuna has it). Where the best value lies at the edge of its range, the range grows.

The best trials of each seed are then trained to the end with the other seeds, too, and the settings with the highest mean win: the best of
many trials of one seed is partly the best of many coincidences.

Supervised rows are searched first, by number of trials, since they take no environment steps; what is found for the first of them is the warm
start of all others: no method has better demonstrations than another. Rows are searched one after the other, and by several sittings.

    <out>/search.json     what is searched
    <out>/journal.log     the studies, see studies.py
    <out>/settings.json   row -> the best knobs, their success, and all trials; ``steptool table --settings`` reads it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from threading import Condition
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from steptool_env.errors import CheckpointError
from steptool_env.files import parse_json, write_json
from steptool_env.sealed import sealing, verified
from steptool_env.words import counted

from ..config import Config
from ..runs.lock import WriterLock
from .children import pipe, run_child
from .found import warm_start_of
from .grid import METHODS, Spec
from .spaces import ANY_SPACE, SPACES, Space, presets
from .studies import FINALIST, PRESET, Studies, TrialState, reached, runs_to_end, success_of, trial_folder

__all__ = ["FINALISTS", "SEEDS", "VALIDATION", "Search", "read_search", "search_settings"]

SEEDS = (1000, 1001)
"""The seeds of the trials; a table counts its seeds from 0."""
VALIDATION: dict[str, Any] = {"split": "train", "size": 11_000, "slice": [10_000, 11_000]}
"""Keywords of ``worlds``: a thousand tasks of the train split; training draws from its first ten thousand."""
FINALISTS = 2
"""Trials of each seed that are trained with the other seeds, too."""


@dataclass(frozen=True)
class Search:
    """What is searched; JSON in, JSON out."""

    methods: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(METHODS))
    """Row -> settings."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of all trials, among them their budget."""
    validation: dict[str, Any] = field(default_factory=lambda: dict(VALIDATION))
    """Keywords of the suite that make the validation tasks."""
    tasks: int = 300
    """Validation tasks that are played."""
    seeds: list[int] = field(default_factory=lambda: list(SEEDS))
    """Each is a study of its own."""
    worth: int = 13
    """What each row may use beside its presets, finals included: this many times the environment steps of one run; of a supervised row, this many trials."""
    warm_start: dict[str, Any] = field(default_factory=dict)
    """What was found for the first supervised row."""

    @property
    def spec(self) -> Spec:
        """A grid with the same rows and settings."""
        return Spec(self.methods, list(self.seeds), self.settings, {"validation": self.validation}, ["greedy"], [], tasks=self.tasks)

    def config(self, row: str, seed: int, knobs: Mapping[str, Any]) -> Config:
        """Return the settings of a trial."""
        methods = {row: {**self.warm_start, **self.methods[row], **knobs}}
        return replace(self.spec, methods=methods).config(row, seed)

    def space(self, row: str) -> Space:
        """Return what a row may choose."""
        return SPACES.get(row, ANY_SPACE)

    @property
    def share(self) -> float:
        """What one study may use before the finals, in runs."""
        return max(1.0, self.worth / len(self.seeds) - FINALISTS * (len(self.seeds) - 1))


def read_search(out: Path) -> Search:
    """Return what a folder searches; raises ``CheckpointError`` if it holds no search."""
    try:
        return TypeAdapter(Search).validate_python(parse_json(verified(out / "search.json", "put the original back, or use another folder")))
    except (OSError, ValueError, TypeError, ValidationError) as fault:
        raise CheckpointError(f"{out} holds no search: search.json cannot be read ({fault})") from fault


def search_settings(search: Search, out: Path, *, processes: int = 2, on_trial: Callable[[str, int, int, str], None] | None = None) -> dict[str, Any]:
    """Run the search, or go on with it; write ``settings.json`` and return what it holds.

    Args:
        search: What is searched. A folder that holds a search already may hold other rows, which stay; all else must match.
        out: The search's folder.
        processes: Trials that run at the same time. More of them know less of each other.
        on_trial: Called with row, seed, number and ``"done"``, ``"pruned"`` or ``"failed"``.

    Raises:
        CheckpointError: A trial failed, or ``out`` holds another search, or another process is writing it.
        MissingExtra: Optuna is not installed.
    """
    for row in search.methods:  # mistakes show before anything is written
        search.config(row, 0, {})
    with WriterLock(out), pipe() as alive:
        rows = list(search.methods)
        if (out / "search.json").exists():
            search = _joined(read_search(out), search, out)
        _store(search, out)
        studies = Studies(out)
        supervised = [row for row in rows if _supervised(search.methods[row])]
        for some in (supervised, [row for row in rows if row not in supervised]):
            _Stage(search, out, studies, some, alive, on_trial or (lambda *_: None)).run(processes)
            found = {row: result for row in search.methods if (result := _result(search, studies, row)) is not None}
            search = replace(search, warm_start=search.warm_start or warm_start_of(found))
            _store(search, out)  # for the trials
        with sealing(out / "settings.json") as temporary:
            write_json(temporary, found)
    return found


def _supervised(options: Mapping[str, Any]) -> bool:
    return options.get("algo") == "sft"


def _joined(stored: Search, asked: Search, out: Path) -> Search:
    """Return the search of a folder with the rows that are asked for now, too; raises ``CheckpointError`` if it searches under other conditions."""
    asked = TypeAdapter(Search).validate_python(json.loads(json.dumps(asdict(asked))))  # as a file has it
    methods = {**stored.methods, **asked.methods}
    differ = [row for row in stored.methods if methods[row] != stored.methods[row]]
    names = [one.name for one in fields(Search) if one.name not in ("methods", "warm_start")]
    differ += [name for name in names if getattr(stored, name) != getattr(asked, name)]
    if differ:
        raise CheckpointError(f"{out} holds another search, with other {', '.join(differ)}; use another folder")
    late = [row for row in methods if row not in stored.methods and _supervised(methods[row])]
    if late and not stored.warm_start:
        raise CheckpointError(f"{out} holds trials without the warm start that {late[0]} would give; search supervised rows first, in another folder")
    return replace(stored, methods=methods)


class _Job(NamedTuple):
    row: str
    seed: int
    number: int


class _Stage:
    """The search of some rows: several threads take the next trial, wait for its process, and take another one."""

    def __init__(
        self, search: Search, out: Path, studies: Studies, rows: list[str], alive: int, on_trial: Callable[[str, int, int, str], None]
    ) -> None:
        self.search, self.out, self.studies, self.rows, self.alive, self.on_trial = search, out, studies, rows, alive, on_trial
        self.running: set[_Job] = set()
        self.failed: list[_Job] = []
        self.changed = Condition()

    def run(self, processes: int) -> None:
        with ThreadPoolExecutor(processes) as pool:
            for done in [pool.submit(self._work) for _ in range(processes)]:
                done.result()
        if self.failed:
            log = trial_folder(self.out, *self.failed[0]) / "log.txt"
            raise CheckpointError(f"{counted(len(self.failed), 'trial')} failed; {log} says why. The search goes on from there when it is started again")

    def _work(self) -> None:
        while True:
            with self.changed:
                while (job := self._next()) is None:
                    if not self.running or self.failed:
                        return
                    self.changed.wait()
                self.running.add(job)
            code = 1  # also where no process could be started
            try:
                log = trial_folder(self.out, *job) / "log.txt"
                code = run_child("trials", str(self.out), job.row, str(job.seed), str(job.number), log=log, alive=self.alive)
                pruned = self.studies.trials(job.row, job.seed)[job.number].state is TrialState.PRUNED
            finally:
                with self.changed:
                    self.running.discard(job)
                    if code:
                        self.failed.append(job)
                    self.changed.notify_all()
            self.on_trial(*job, "failed" if code else "pruned" if pruned else "done")

    def _next(self) -> _Job | None:
        """Return a trial to run, of the first row that has any: one that was interrupted, else one of the study that has used the least, else a final.

        None: there is none now.
        """
        if self.failed:
            return None
        for row in self.rows:
            for seed in self.search.seeds:
                for trial in self.studies.trials(row, seed):
                    if trial.state is TrialState.RUNNING and (job := _Job(row, seed, trial.number)) not in self.running:
                        return job
        for row in self.rows:
            used = {seed: self._used(row, seed) for seed in self.search.seeds}
            if used[seed := min(used, key=lambda one: used[one])] < self.search.share:
                return self._ask(row, seed)
            if not self.studies.of(row, self.search.seeds[0]).user_attrs.get("finals"):
                if any(job.row == row for job in self.running):
                    continue  # who is a finalist is known when all trials have ended; until then, the next row fills the places
                self._call_finalists(row)
            for seed in self.search.seeds:
                if any(trial.state is TrialState.WAITING for trial in self.studies.trials(row, seed)):
                    return _Job(row, seed, self.studies.ask(row, seed, self.search.space(row)))
        return None

    def _ask(self, row: str, seed: int) -> _Job:
        space = self.search.space(row)
        if not self.studies.trials(row, seed):
            settings = {name.partition(".")[2]: value for name, value in self.search.config(row, seed, {}).flat().items()}
            for preset in presets(space, settings):
                self.studies.enqueue(row, seed, preset, PRESET)
        return _Job(row, seed, self.studies.ask(row, seed, space))

    def _used(self, row: str, seed: int) -> float:
        """Return what a study has used, in runs; a trial that is running may become a whole one."""
        limit = self.search.config(row, seed, {}).run.budget_steps
        used = 0.0
        for trial in self.studies.trials(row, seed):
            if trial.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED) and not runs_to_end(trial):
                steps = trial.user_attrs.get("env_steps")
                used += steps / limit if steps and limit is not None else 1.0
        return used

    def _call_finalists(self, row: str) -> None:
        """Have the best trials of each seed trained with the others."""
        seeds = self.search.seeds
        for seed in seeds:
            ranking = [trial for trial in self.studies.ranking(row, seed) if not trial.user_attrs.get(FINALIST)]
            for best in ranking[:FINALISTS]:
                for other in seeds:
                    known = [trial.params for trial in self.studies.trials(row, other) if trial.state is TrialState.COMPLETE]
                    known += [trial.system_attrs["fixed_params"] for trial in self.studies.trials(row, other) if trial.state is TrialState.WAITING]
                    if best.params not in known:
                        self.studies.enqueue(row, other, best.params, FINALIST)
        self.studies.of(row, seeds[0]).set_user_attr("finals", True)


def _store(search: Search, out: Path) -> None:
    with sealing(out / "search.json") as temporary:
        write_json(temporary, asdict(search))


def _cost(trial: Any) -> dict[str, Any]:
    return {"env_steps": trial.user_attrs.get("env_steps", 0), PRESET: trial.user_attrs.get(PRESET, False), FINALIST: trial.user_attrs.get(FINALIST, False)}


def highest(means: Mapping[str, float]) -> str:
    """Return the key of the highest mean; the first one wins a tie, also one that only rounding breaks: 235 and 248 of 300 are as many as 240 and 243."""
    return max(means, key=lambda key: round(means[key], 9))


def _result(search: Search, studies: Studies, row: str) -> dict[str, Any] | None:
    """Return the settings with the highest mean over all seeds, and all trials; the first ones win a tie. None: the row is not done."""
    known = [trial for seed in search.seeds for trial in studies.trials(row, seed)]
    if not studies.of(row, search.seeds[0]).user_attrs.get("finals") or not all(trial.state.is_finished() for trial in known):
        return None
    trials, values, settings = [], dict[str, dict[str, float]](), dict[str, dict[str, Any]]()
    for seed in search.seeds:
        for trial in studies.trials(row, seed):
            done = trial.state is TrialState.COMPLETE
            # What was measured last, also of a trial that ended early.
            last = success_of(trial) if done else trial.intermediate_values.get(max(trial.intermediate_values, default=0))
            trials.append({"seed": seed, "number": trial.number, "knobs": trial.params, "success": last, "reached": reached(trial), **_cost(trial)})
            if done:
                key = json.dumps(trial.params, sort_keys=True)
                settings.setdefault(key, trial.params)
                values.setdefault(key, {})[str(seed)] = success_of(trial)
    means = {key: sum(by_seed.values()) / len(by_seed) for key, by_seed in values.items() if len(by_seed) == len(search.seeds)}
    best = highest(means)
    grown = {str(seed): wider for seed in search.seeds if (wider := studies.grown(row, seed))}
    return {"knobs": settings[best], "success": means[best], "by_seed": values[best], "widened": grown, "trials": trials}
