"""A table of a grid, as the scripts that train one end: cells are run and named when they end, the table is written beside them, and printed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from steptool_agents.experiments.grid import Spec, run_grid
from steptool_agents.experiments.layout import as_markdown, write
from steptool_agents.experiments.table import build

__all__ = ["print_table"]


def print_table(out: Path, spec: Spec | None, *, processes: int, smoke: bool, planned: Collection[str] = ()) -> None:
    """Run a grid, write its table, and print it.

    Args:
        out: The grid's folder.
        spec: The grid; None: only the table, from the episodes that are stored in the folder.
        processes: Cells that run at the same time.
        smoke: Say that the numbers mean nothing.
        planned: The methods whose number intervals are corrected for; none: those of the folder.
    """

    def show(method: str, seed: int, state: str) -> None:
        print(f"{method}, seed {seed}: {state}\n", end="", flush=True)  # one write: cells end side by side

    if spec is not None:
        for folder in run_grid(spec, out, processes=processes, on_cell=show):
            print(f"{folder} failed; see its log.txt")
    table = build(out, planned)
    write(table, out)
    if smoke:
        print("SMOKE RUN: it shows the layout only.\n")
    print(as_markdown(table))
