"""One cell of a grid, in a process of its own: ``python -m steptool_agents.experiments.cells GRID METHOD SEED``."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from steptool_env.files import write_json
from steptool_env.sealed import sealing

from ..algorithms import load_algorithm
from ..config import Config
from ..rollouts.evaluate import held_out
from ..rollouts.search import search
from ..runs.folder import copy_warm_start, has_warm_start
from ..runs.lock import WriterLock
from ..runs.memory import give_back
from ..runs.policies import evaluated_policy, load_policy
from ..trajectory import Trajectory, write_jsonl
from .children import DYING, end_with_parent
from .grid import Evaluation, Spec, cell_folder, evaluations, read_spec, suite_of
from .robustness import failing

__all__ = ["run_cell", "without_tokens"]


def run_cell(spec: Spec, out: Path, method: str, seed: int) -> None:
    """Train one cell, or go on with it, and play what has not been played."""
    config, folder = spec.config(method, seed), cell_folder(out, method, seed)
    run = folder / "run"
    with WriterLock(folder, wait=DYING):
        if not (run / "report.json").exists():
            _take_warm_start(spec, out, config, run)
            load_algorithm(config.learning.algo)(config, run, resume=(run / "config.json").exists())
        for evaluation in evaluations(spec, folder):
            if not evaluation.done:
                give_back()  # of the training, and of the evaluation before
                _evaluate(spec, config, run, evaluation)


def _take_warm_start(spec: Spec, out: Path, config: Config, run: Path) -> None:
    """Copy the warm start of a cell that has done the same one."""
    for method in spec.methods:
        source = cell_folder(out, method, config.run.seed) / "run"
        if source != run and has_warm_start(source) and _warm_start_key(spec.config(method, config.run.seed)) == _warm_start_key(config):
            copy_warm_start(source, run, config)
            return


def _warm_start_key(config: Config) -> tuple[Any, ...]:
    """Return the settings that a warm start depends on."""
    task, model = config.task, config.model
    words = model.name, model.call_format, model.chat_template_options
    fitting = model.lora_rank, model.bfloat16, model.token_budget, config.rollout.temperature, config.learning.max_grad_norm
    return config.warm_start, task.suite, task.suite_options, task.fault_options, task.show_budget, task.max_steps, *words, *fitting


def _evaluate(spec: Spec, config: Config, run: Path, evaluation: Evaluation) -> None:
    policy, _ = load_policy(run)
    sampler = evaluated_policy(policy.lm, config, temperature=1.0, seed=config.run.seed)
    suite = suite_of(spec, config, evaluation.split)
    started = time.perf_counter()
    tasks = held_out(suite, evaluation.tasks)
    options: dict[str, Any] = {"budget": spec.budget, "max_steps": config.task.max_steps, "parallel": config.run.eval_width}
    # The same faults for every method: seeded by the seed of the cell.
    suite = failing(suite, evaluation.faults, config.run.seed)
    results = search(evaluation.search, {True: policy, False: sampler}, suite, tasks, **options)
    cost = {measure: sum(getattr(result, measure) for result in results) / len(results) for measure in ("calls", "env_steps", "tokens")}
    evaluation.folder.mkdir(parents=True, exist_ok=True)
    with sealing(evaluation.episodes) as temporary:
        write_jsonl(temporary, [without_tokens(result.trajectory) for result in results])
    with sealing(evaluation.costs) as temporary:
        write_json(temporary, {**cost, "seconds": time.perf_counter() - started})


def without_tokens(trajectory: Trajectory) -> Trajectory:
    """Return an episode without the token ids and the numbers of its policy: two thirds of its file, and no table needs them."""
    nothing: dict[str, Any] = {"prompt_ids": (), "token_ids": (), "logprobs": (), "value": 0.0, "forced": (0, 0), "importance": ()}
    return Trajectory(tuple(replace(step, generation=replace(step.generation, **nothing)) for step in trajectory.steps))


if __name__ == "__main__":
    end_with_parent()

    import torch

    torch.set_num_threads(1)
    run_cell(read_spec(Path(sys.argv[1])), Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
