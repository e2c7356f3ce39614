"""A grid of runs: methods × seeds, each cell in its own process. Finished cells are not run again; interrupted ones resume; methods and
seeds may be added to a grid that is there.

<out>/spec.json                                   what the grid is made of
<out>/cells/<method>-<seed>/run/                  the run's folder, see runs/folder.py
                            evaluations/<split>-<search>.jsonl, .json   episodes, and what they cost
                            evaluations/<split>-greedy-<condition>.…    the same with tools that fail, see robustness.py
                            log.txt               what the process wrote
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from steptool_env.errors import CheckpointError, InvalidArgument, UnknownName
from steptool_env.files import parse_json, write_json
from steptool_env.reference import FORMS, is_reference
from steptool_env.sealed import sealing, verified
from steptool_env.tasks import TaskSuite, make_suite

from ..algorithms import ALGORITHMS, algorithm_settings
from ..config import CHAINS, Config, Layer, configure
from ..runs.lock import WriterLock
from ..runs.tasks import as_shown
from .children import pipe, run_child
from .robustness import Condition, condition_name

__all__ = [
    "METHODS",
    "SPLITS",
    "TASKS",
    "WITH_FAULTS",
    "Evaluation",
    "Spec",
    "cell_folder",
    "evaluations",
    "finished",
    "read_spec",
    "rows",
    "run_grid",
    "suite_of",
    "with_faults",
]

FAULTS: tuple[dict[str, float], ...] = (
    *({"rate": rate} for rate in (0.1, 0.2, 0.3, 0.4)),
    {"rate": 0.1, "lasting": 1.0},
    {"rate": 0.0, "stale": 0.3},
)
"""The conditions under which a policy is tested beside the one without faults: four points of the curve, tools that stay down, and old answers."""

METHODS: dict[str, dict[str, Any]] = {
    "SFT": {"algo": "sft"},
    "RFT": {"algo": "rft"},
    "RFT (step)": {"algo": "rft", "algo_options": {"steps": True}, "imitate": "steps"},
    "PPO (final)": {"algo": "ppo-final"},
    "ETO": {"algo": "eto"},
    "trajectory DPO": {"algo": "trajectory-dpo"},
    "ArCHer lite": {"algo": "archer-lite"},
    "REINFORCE (final)": {"algo": "step-reinforce", "shaper": "final"},
    "REINFORCE (step)": {"algo": "step-reinforce"},
    "RLOO (final)": {"algo": "rloo", "shaper": "final"},
    "RLOO (step)": {"algo": "rloo"},
    "GRPO (final)": {"algo": "grpo", "shaper": "final"},
    "GRPO (step)": {"algo": "grpo"},
    "GiGPO (final)": {"algo": "gigpo", "shaper": "final"},
    "GiGPO (step)": {"algo": "gigpo"},
    "process GRPO": {"algo": "process-grpo"},
    "MT-GRPO": {"algo": "mt-grpo"},
    "turn-PPO": {"algo": "turn-ppo"},
    "StepTool": {"algo": "step-ppo"},
    "w/o step credit": {"algo": "step-ppo", "credit": "trajectory"},
    "w/o imitation": {"algo": "step-ppo", "imitate": "none"},
    "token credit": {"algo": "step-ppo", "credit": "token", "lam": 0.95},
    "bilevel credit": {"algo": "step-ppo", "credit": "bilevel", "lam": 0.95},
    "SC only": {"algo": "step-ppo", "shaper_options": {"beta": 0.0}},
    "Con only": {"algo": "step-ppo", "shaper_options": {"alpha": 0.0}},
    "reference credit": {"algo": "step-ppo", "credit": "reference", "gamma": 0.99, "lam": 0.95, "negative": 1.0, "imitate": "none"},
}
"""Row of the table -> settings. A row is named by what it learns from: the final reward alone, or that of every step. The ablation without
step-grained rewards is ``PPO (final)``: the same credit, the final reward alone."""

WITH_FAULTS = ", with faults"
"""How the names of rows end that are trained where calls fail; see ``with_faults``."""

TASKS: dict[str, Any] = {**CHAINS, "depth": [1, 6]}
"""The default tasks of a table. They include deep ones: if all tasks are shallow, most methods solve nearly all of them."""

_UNSEEN: dict[str, Any] = {"size": 20_000, "slice": [10_000, 20_000]}
SPLITS: dict[str, dict[str, Any]] = {"held-out": _UNSEEN, "deeper": {"split": "compositions", **_UNSEEN}}
"""The splits of ``worlds``: tasks like those of training, and tasks of one or two calls more than the deepest of those. The first ten thousand of
each are what experiments play that choose or change a method; a table plays others."""


@dataclass(frozen=True)
class Spec:
    """What a grid is made of; JSON in, JSON out."""

    methods: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(METHODS))
    """Row -> settings that differ from ``settings``."""
    seeds: list[int] = field(default_factory=lambda: [0])
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of all runs."""
    splits: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: dict(options) for name, options in SPLITS.items()})
    """Name -> keywords of the suite over those of training, and ``"slice": [first, last]`` for a part of it; the split is ``test``
    unless they name another."""
    searches: list[str] = field(default_factory=lambda: ["greedy", "dfsdt"])
    faults: list[dict[str, float]] = field(default_factory=lambda: [dict(condition) for condition in FAULTS])
    """Conditions, see ``robustness.py``; under each of them the tasks of the first split are played greedily."""
    tiny: dict[str, Any] = field(default_factory=lambda: dict(TASKS))
    """Keywords of ``worlds`` that all runs of ``tiny`` play unless ``settings`` say otherwise; empty: those of ``steptool train``."""
    tasks: int = 200
    """Tasks of the first split."""
    fewer_tasks: int | None = None
    """Tasks of every other split, and of the first one under each condition; None: as many. Best a divisor of ``tasks``: a loss by faults is measured
    on the tasks that were played with and without."""
    budget: int = 30
    """Calls of the model per task, for every search."""

    def config(self, method: str, seed: int) -> Config:
        """Return the settings of a cell."""
        if method not in self.methods:
            raise InvalidArgument(f"unknown method {method!r}; this grid has: {', '.join(self.methods)}")
        # A pretrained model has tasks of its own.
        tasks = Layer("table", {"suite_options": self.tiny} if self.tiny and self._trains_tiny_on_worlds(method) else {})
        layers = [tasks, Layer("settings", self.settings), Layer("method", self.methods[method]), Layer("seed", {"seed": seed})]
        return configure(layers, algorithm_settings).config

    def _trains_tiny_on_worlds(self, method: str) -> bool:
        config = configure([Layer("settings", self.settings), Layer("method", self.methods[method])], algorithm_settings).config
        return config.task.suite == "worlds" and config.model.name == "tiny"


def with_faults(methods: dict[str, dict[str, Any]], rate: list[float]) -> dict[str, dict[str, Any]]:
    """Return each method once more, trained and shown demonstrations where calls fail: ``"StepTool, with faults"`` and the like.

    Args:
        methods: Row -> settings.
        rate: Each task draws its share of failing calls between these two.
    """
    return {f"{name}{WITH_FAULTS}": {**options, "fault_rate": rate, "demo_fault_rate": rate} for name, options in methods.items()}


def rows(names: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Return rows of a table with their settings.

    Args:
        names: Rows of ``METHODS``, or algorithms by the names that ``--algo`` takes; none: all of ``METHODS``.

    Raises:
        UnknownName: A name is neither.
    """
    chosen = {}
    for name in names:
        if name not in METHODS and name not in ALGORITHMS and not is_reference(name):
            raise UnknownName("method", name, [*METHODS, *ALGORITHMS, *FORMS])
        chosen[name] = METHODS.get(name, {"algo": name})
    return chosen or dict(METHODS)


def cell_folder(out: Path, method: str, seed: int) -> Path:
    """Return the folder of a cell."""
    return out / "cells" / f"{re.sub('[^a-z0-9]+', '-', method.lower()).strip('-')}-{seed}"


def read_spec(out: Path) -> Spec:
    """Return the spec of a grid's folder; raises ``CheckpointError`` if it holds none."""
    try:
        record = parse_json(verified(out / "spec.json", "put the original back, or use another folder"))
        return TypeAdapter(Spec).validate_python(asdict(Spec(**record)))
    except ValidationError as fault:
        raise CheckpointError(f"{out} holds no grid of runs: spec.json cannot be read ({'; '.join(map(_explain, fault.errors()))})") from fault
    except (OSError, ValueError, TypeError) as fault:
        raise CheckpointError(f"{out} holds no grid of runs: spec.json cannot be read ({fault})") from fault


def _explain(fault: Any) -> str:
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


class Evaluation(NamedTuple):
    """What is played with a trained policy, and where its episodes go."""

    split: str
    search: str
    faults: Condition
    """What fails; empty: nothing."""
    tasks: int
    """How many tasks are played."""
    folder: Path

    @property
    def episodes(self) -> Path:
        """The file of the episodes."""
        return self.folder / f"{self._name}.jsonl"

    @property
    def costs(self) -> Path:
        """The file with their costs; written last, so that its existence marks the evaluation as complete."""
        return self.folder / f"{self._name}.json"

    @property
    def done(self) -> bool:
        """Whether the evaluation is complete."""
        return self.costs.exists() and self.episodes.exists()

    @property
    def _name(self) -> str:
        return f"{self.split}-{self.search}{condition_name(self.faults)}"


def evaluations(spec: Spec, folder: Path) -> list[Evaluation]:
    """Return all evaluations of a cell's policy; those with failing tools come last."""
    subfolder, first, fewer = folder / "evaluations", next(iter(spec.splits)), spec.fewer_tasks or spec.tasks
    plain = [Evaluation(split, name, {}, spec.tasks if split == first else fewer, subfolder) for split in spec.splits for name in spec.searches]
    return plain + [Evaluation(first, "greedy", condition, fewer, subfolder) for condition in spec.faults]


def suite_of(spec: Spec, config: Config, split: str) -> TaskSuite:
    """Return the tasks of a split."""
    options = {**config.task.suite_options, "split": "test", **spec.splits[split]}
    part = options.pop("slice", None)
    suite: Any = make_suite(config.task.suite, **options)
    return as_shown(suite if part is None else suite[slice(*part)], config)


def run_grid(spec: Spec, out: Path, *, processes: int = 2, on_cell: Callable[[str, int, str], None] | None = None) -> list[Path]:
    """Run every cell that is not finished; return the folders of those that failed, whose ``log.txt`` says why.

    Cells whose warm starts would be the same do it once for each seed, and the others take it from the first; the supervised cells come
    first. The cells end with this process, also when it is killed.

    Args:
        spec: The grid. A folder that holds one already may hold other methods and seeds, which stay; all else must match.
        out: The grid's folder.
        processes: Cells that run at the same time, with one thread each.
        on_cell: Called with method, seed and ``"done"``, ``"failed"`` or ``"was done"``.

    Raises:
        CheckpointError: ``out`` holds another grid, or another process is writing it.
    """
    _check(spec, out)  # mistakes show before anything is written
    with WriterLock(out), pipe() as alive:
        return _run_cells(spec, out, processes, on_cell or (lambda *_: None), alive)


def _check(spec: Spec, out: Path) -> None:
    named: dict[Path, str] = {}
    for method in spec.methods:
        spec.config(method, 0)
        if (other := named.setdefault(cell_folder(out, method, 0), method)) != method:
            raise InvalidArgument(f"the methods {other!r} and {method!r} would write into the same folder; name one of them otherwise")


def _run_cells(asked: Spec, out: Path, processes: int, on_cell: Callable[[str, int, str], None], alive: int) -> list[Path]:
    spec = _joined(read_spec(out), asked, out) if (out / "spec.json").exists() else asked
    with sealing(out / "spec.json") as temporary:
        write_json(temporary, asdict(spec))

    def run_in_subprocess(cell: tuple[str, int]) -> Path | None:
        folder = cell_folder(out, *cell)
        state = "was done"
        if not finished(spec, folder):
            code = run_child("cells", str(out), cell[0], str(cell[1]), log=folder / "log.txt", alive=alive)
            state = "failed" if code else "done"
        on_cell(*cell, state)
        return folder if state == "failed" else None

    failed: list[Path | None] = []
    with ThreadPoolExecutor(processes) as pool:
        for supervised in (True, False):
            methods = [method for method in asked.methods if (spec.config(method, 0).learning.algo == "sft") is supervised]
            cells = [(method, seed) for method in methods for seed in asked.seeds]
            failed += pool.map(run_in_subprocess, cells)
    return [folder for folder in failed if folder is not None]


def _joined(stored: Spec, asked: Spec, out: Path) -> Spec:
    """Return the grid of a folder with the methods and seeds that are asked for now, too; raises ``CheckpointError`` if all else differs."""
    asked = TypeAdapter(Spec).validate_python(json.loads(json.dumps(asdict(asked))))  # as a file has it
    methods = {**stored.methods, **asked.methods}
    differ = [name for name in stored.methods if methods[name] != stored.methods[name]]
    differ += [one.name for one in fields(Spec) if one.name not in ("methods", "seeds") and getattr(stored, one.name) != getattr(asked, one.name)]
    if differ:
        raise CheckpointError(f"{out} holds a grid with another spec.json, with other {', '.join(differ)}; use another folder")
    joined = replace(stored, methods=methods, seeds=sorted({*stored.seeds, *asked.seeds}))
    _check(joined, out)
    return joined


def finished(spec: Spec, folder: Path) -> bool:
    """Return whether a cell is trained and all its evaluations are done."""
    return (folder / "run" / "report.json").exists() and all(evaluation.done for evaluation in evaluations(spec, folder))
