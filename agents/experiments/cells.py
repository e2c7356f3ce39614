"""One cell of a grid, in a process of its own: ``python -m steptool_agents.experiments.cells GRID METHOD SEED``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from steptool_env.files import write_json
from steptool_env.tasks.wrapped import Faulty

from ..algorithms import load_algorithm
from ..config import Config
from ..rollouts.evaluate import held_out
from ..rollouts.search import search
from ..runs.folder import copy_warm_start
from ..runs.policies import evaluated_policy, load_policy
from ..trajectory import write_jsonl
from .grid import Evaluation, Spec, cell_folder, evaluations, read_spec, suite_of

__all__ = ["run_cell"]


def run_cell(spec: Spec, out: Path, method: str, seed: int) -> None:
    """Train one cell, or go on with it, and play what has not been played."""
    config, folder = spec.config(method, seed), cell_folder(out, method, seed)
    run = folder / "run"
    if not (run / "report.json").exists():
        _take_warm_start(spec, out, config, run)
        load_algorithm(config.learning.algo)(config, run, resume=(run / "config.json").exists())
    for one in evaluations(spec, folder):
        if not one.costs.exists():
            _evaluate(spec, config, run, one)


def _take_warm_start(spec: Spec, out: Path, config: Config, run: Path) -> None:
    """Copy the warm start of the supervised cell, if it is the same: only what comes after it differs."""
    for method in spec.methods:
        other = spec.config(method, config.run.seed)
        supervised = other.learning.algo == "sft" != config.learning.algo
        if supervised and _begins_with(other) == _begins_with(config):
            copy_warm_start(cell_folder(out, method, config.run.seed) / "run", run)


def _begins_with(config: Config) -> tuple[Any, ...]:
    """Return what a warm start depends on."""
    task, model = config.task, config.model
    return config.warm_start, task.suite, task.suite_options, task.max_steps, model.name, model.call_format, model.lora_rank


def _evaluate(spec: Spec, config: Config, run: Path, one: Evaluation) -> None:
    policy, _ = load_policy(run)
    sampler = evaluated_policy(policy.lm, config, temperature=1.0, seed=config.run.seed)
    suite = suite_of(spec, config, one.split)
    started = time.perf_counter()
    tasks = held_out(suite, spec.tasks)
    options: dict[str, Any] = {"budget": spec.budget, "max_steps": config.task.max_steps, "parallel": config.run.eval_width}
    # The same faults for every method: seeded by the seed of the cell.
    found = search(one.search, {True: policy, False: sampler}, Faulty(suite, one.faults, config.run.seed) if one.faults else suite, tasks, **options)
    cost = {what: sum(getattr(each, what) for each in found) / len(found) for what in ("calls", "env_steps", "tokens")}
    one.folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(one.episodes, [each.trajectory for each in found])
    write_json(one.costs, {**cost, "seconds": time.perf_counter() - started})


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    run_cell(read_spec(Path(sys.argv[1])), Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
