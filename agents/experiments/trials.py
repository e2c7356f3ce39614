"""One trial of a search, in a process of its own: ``python -m steptool_agents.experiments.trials SEARCH ROW SEED NUMBER``.

It trains as a cell of a table does. After the shares of its training in ``RUNGS`` it plays the validation tasks; if half of the trials that came
so far are better, it ends there, unless it is a preset or a finalist. Otherwise it is measured once more at its end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..algorithms import load_algorithm
from ..rollouts.evaluate import held_out, rollout_tasks
from ..runs.lock import WriterLock
from ..runs.policies import evaluated_policy, load_policy
from ..runs.watching import watching
from .children import DYING, end_with_parent
from .grid import suite_of
from .stored import read_numbers
from .studies import FINALIST, RUNGS, Studies, TrialState, runs_to_end, trial_folder
from .tuning import Search, read_search

if TYPE_CHECKING:
    from ..config import Config
    from ..models.language_model import LanguageModel
    from ..runs.run import Run

__all__ = ["run_trial"]


class _Pruned(Exception):
    """Half of the other trials are better."""


def run_trial(search: Search, out: Path, row: str, seed: int, number: int) -> None:
    """Train a trial, or go on with it, and tell its study what came of it."""
    studies, folder = Studies(out), trial_folder(out, row, seed, number)
    study, trial = studies.of(row, seed), studies.trial(row, seed, number)
    known = studies.trials(row, seed)[number]
    measured = set(known.intermediate_values)
    config = search.config(row, seed, known.params)
    limit = config.run.budget_steps

    def compare(run: Run) -> None:
        if limit is None or known.user_attrs.get(FINALIST):
            return
        for rung, share in enumerate(RUNGS, start=1):
            if run.spent["env_steps"] >= share * limit and run.has_budget and rung not in measured:
                trial.report(_success(search, config, run.lm), rung)
                measured.add(rung)
                if trial.should_prune() and not runs_to_end(known):
                    trial.set_user_attr("env_steps", run.spent["env_steps"])
                    raise _Pruned

    with WriterLock(folder, wait=DYING):
        run = folder / "run"
        try:
            if not (run / "report.json").exists():
                with watching(compare):
                    load_algorithm(config.learning.algo)(config, run, resume=(run / "config.json").exists())
        except _Pruned:
            study.tell(number, state=TrialState.PRUNED)
            return
        trial.set_user_attr("env_steps", read_numbers(run / "report.json", "env_steps")["env_steps"])
        policy, _ = load_policy(run)
        study.tell(number, _success(search, config, policy.lm))


def _success(search: Search, config: Config, lm: LanguageModel) -> float:
    """Return the share of validation tasks that the policy solves, playing greedily."""
    suite = suite_of(search.spec, config, "validation")
    tasks = held_out(suite, search.tasks)
    episodes = rollout_tasks(evaluated_policy(lm, config), suite, tasks, max_steps=config.task.max_steps, width=config.run.eval_width)
    return sum(episode.success for episode in episodes) / len(episodes)


if __name__ == "__main__":
    end_with_parent()

    import torch

    torch.set_num_threads(1)
    run_trial(read_search(Path(sys.argv[1])), Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
