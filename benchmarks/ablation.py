"""What λ is worth: ``steptool ablate`` over it, on the tasks that ``steptool train`` plays.

    python benchmarks/ablation.py        # about six minutes on one core; writes benchmarks/results/ablation.md and ablation.png

Every run is ``step-ppo`` with its defaults but for the number of updates; the warm start of a seed is the same for all levels.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from steptool_agents.experiments.ablation import ablate, as_markdown

RESULTS = Path(__file__).parent / "results"
LEVELS = [0.5, 0.0, 1.0]
"""The first one is the default, with which the others are compared."""


def main() -> None:
    """Run the ablation, or go on with it, and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="seeds of every level")
    parser.add_argument("--updates", type=int, default=8, help="updates of every run")
    parser.add_argument("--tasks", type=int, default=200, help="held-out tasks")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation-lam"), help="the folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the page goes")
    options = parser.parse_args()

    settings = {"updates": options.updates, "report_to": "none"}
    table = ablate(
        options.out,
        {"learning.lam": LEVELS},
        seeds=options.seeds,
        settings=settings,
        tasks=options.tasks,
        processes=options.processes,
        on_cell=lambda *cell: print(*cell, flush=True),
    )
    (options.results / "ablation.md").write_text(page(table, options), encoding="utf-8")
    shutil.copyfile(options.out / "ablation.png", options.results / "ablation.png")


def page(table: dict[str, object], options: argparse.Namespace) -> str:
    """Return the page of results."""
    command = f"python benchmarks/ablation.py --seeds {options.seeds} --updates {options.updates} --tasks {options.tasks}"
    settings = f"--set updates={options.updates}"
    return f"""# What λ is worth

Made by `{command}`: `step-ppo` on the tasks that `steptool train` plays by default, {options.updates} updates, with the default
reward `steptool`. The same from the command line: `steptool ablate learning.lam=.5,0,1 --seeds {options.seeds} --tasks {options.tasks} {settings}`.

![Success by λ](ablation.png)

Few seeds make an interval that is too narrow: with two of them it says little about other seeds. The seconds are those of a machine
that may have been busy with other work.

{as_markdown(table)}"""


if __name__ == "__main__":
    main()
