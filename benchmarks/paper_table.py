"""The paper's table: every method, with and without search, on held-out tasks and by depth, with intervals.

    python benchmarks/paper_table.py --seeds 5 --processes 2 --out runs/table     # hours on two cores; resumes when killed
    python benchmarks/paper_table.py --from runs/table                            # rebuilds every number from the stored episodes
    python benchmarks/paper_table.py --smoke --out runs/smoke                     # a few minutes: shows the layout, proves nothing

All methods get the same environment steps (--steps) and at most the same model tokens (--tokens), whichever they use up first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from steptool_agents.grid import METHODS, Spec, run_grid
from steptool_agents.table import as_markdown, build, write

SMOKE: dict[str, Any] = {"demos": 400, "episodes": 32, "updates": 4, "eval_episodes": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40_000, help="environment steps of training")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens that the model reads, writes and trains on")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    out = given.source or given.out
    if given.source is None:
        settings = SMOKE if given.smoke else {"updates": 10_000, "budget_steps": given.steps, "budget_tokens": given.tokens}
        spec = Spec(METHODS, list(range(given.seeds)), settings, tasks=12 if given.smoke else given.tasks)
        for folder in run_grid(spec, out, processes=given.processes, on_cell=lambda *what: print(*what, flush=True)):
            print(f"{folder} failed; see its log.txt")
    table = build(out)
    write(table, out)
    if given.smoke:
        print("SMOKE RUN: it shows the layout only.\n")
    print(as_markdown(table))


if __name__ == "__main__":
    main()
