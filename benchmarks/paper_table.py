"""The paper's table: every method, with and without search, on held-out tasks, by depth, and with failing tools; with intervals.

    python benchmarks/paper_table.py --seeds 5 --out runs/table        # resumes when killed
    python benchmarks/paper_table.py --from runs/table                 # rebuilds every number from the stored episodes
    python benchmarks/paper_table.py --search --out runs/search        # the search for the settings of every method, see tuning.py
    python benchmarks/paper_table.py --smoke --out runs/smoke          # a few minutes: shows the layout, proves nothing

All methods get the same environment steps (--steps) and at most the same model tokens (--tokens), whichever they use up first.
``--settings`` reads what a search has found; without it, all methods have their defaults.

The comparison that counts, named before a row of the table was trained: success on held-out tasks of four calls and more, played greedily, StepTool less
each other row that is a method of its own, corrected for their number (``PLANNED``). All other columns are there to understand it.

What rebuilds every number, and what a grid needs to take more rows and seeds in another sitting, is small, and can be kept without the weights; of one row:

    cd runs && find table/cells -path 'table/cells/steptool-[0-9]*' \\
        \\( -path '*/run/*' ! -name report.json ! -name metrics.jsonl -prune -o -type f -print \\) | tar -cJf steptool.tar.xz -T -
    find table -maxdepth 2 -name 'spec.json*' -type f | tar -cJf grid.tar.xz -T -

A row that comes later fits its warm start anew, and on another machine not to the last bit.

What a cell costs with --steps 20000, in seconds of one slow core: 8 for SFT, 302 for PPO (final), 322 for StepTool, and 68 to 89 to play 2,250 tasks
greedily. The rows that compare episodes take longer, an ablation what StepTool does.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from table_parts.printed import print_table

from steptool_agents.experiments.found import read_settings, tuned
from steptool_agents.experiments.grid import Spec, rows, with_faults
from steptool_env import StepToolError

PLANNED = ("SFT", "RFT", "RFT (step)", "PPO (final)", "ETO", "ArCHer lite", "GRPO (final)", "GRPO (step)", "process GRPO", "StepTool")
"""The rows that are compared, trained or not yet. Others, such as ablations, are no rivals."""
SMOKE: dict[str, Any] = {"episodes": 32, "updates": 3, "eval_episodes": 8, "eval_width": 8}


def _search(given: argparse.Namespace, methods: dict[str, dict[str, Any]], budget: dict[str, Any]) -> None:
    from steptool_agents.experiments.tuning import Search, search_settings  # needs Optuna

    def show(method: str, seed: int, number: int, state: str) -> None:
        print(f"{method}, seed {seed}, trial {number}: {state}\n", end="", flush=True)

    search = Search(methods, budget, tasks=given.validation, worth=given.worth)
    for name, one in search_settings(search, given.out, processes=given.processes, on_trial=show).items():
        print(f"{name}: {one['knobs']}, success {one['success']:.3f} in {len(one['trials'])} trials")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--settings", type=Path, help="settings.json of a search")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--worth", type=int, default=13, help="what a method may use in the search beside its presets: so many times --steps")
    parser.add_argument("--validation", type=int, default=300, help="tasks of the search")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--method", action="append", help="a row, or an algorithm by its name; may be repeated; all rows by default")
    parser.add_argument("--tasks", type=int, default=500, help="held-out tasks without faults")
    parser.add_argument("--fewer-tasks", type=int, default=250, help="of the deeper split, and of each condition with faults")
    parser.add_argument("--play", action="append", help="how tasks are played: greedy, dfsdt …; may be repeated; both by default")
    parser.add_argument("--calls", type=int, default=20, help="calls of the model per task, for every search at inference")
    parser.add_argument("--steps", type=int, default=6_000, help="environment steps of training")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="tokens that the model reads, writes and trains on")
    parser.add_argument("--with-faults", type=float, nargs=2, metavar=("FROM", "TO"), help="train each row once more, with this share of failing calls")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()

    # Nobody looks at the evaluations of the runs themselves: the table has its own.
    budget = {"updates": 10_000, "budget_steps": given.steps, "budget_tokens": given.tokens, "eval_episodes": 20}
    try:
        methods = rows(given.method or ())
    except StepToolError as fault:
        parser.error(str(fault))
    if given.search:
        _search(given, methods, budget)
        return
    spec = None
    if given.source is None:
        methods = methods if given.settings is None else tuned(read_settings(given.settings), methods)
        methods |= with_faults(methods, given.with_faults) if given.with_faults else {}
        spec = Spec(methods, list(range(given.seeds)), budget, tasks=given.tasks, fewer_tasks=given.fewer_tasks, budget=given.calls)
        spec = replace(spec, searches=given.play or spec.searches)
        if given.smoke:
            spec = replace(spec, settings=SMOKE, tasks=12, fewer_tasks=6, budget=12, faults=[{"rate": 0.4}])
    print_table(given.source or given.out, spec, processes=given.processes, smoke=given.smoke, planned=PLANNED)


if __name__ == "__main__":
    main()
