"""The command ``steptool table``: all methods side by side."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from .grids import show_cells, show_result
from .options import Force, Json, Set, make_console, pairs

__all__ = ["table"]


def table(
    out: Annotated[Path, typer.Option(help="The grid's folder; one that is there goes on where it stopped, and takes more methods and seeds.")] = Path(
        "runs/table"
    ),
    from_: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Only rebuild the table from the episodes stored there.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A row of the table, such as StepTool or 'PPO (final)', or an algorithm as --algo takes it; may be repeated; all rows by default."),
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="The settings.json of a search: its best settings of every method.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, … of every method.")] = 1,
    search: Annotated[list[str] | None, typer.Option(help="greedy, dfsdt or best-of-n; may be repeated.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Held-out tasks of each split.")] = 200,
    budget: Annotated[int, typer.Option(min=1, help="Calls of the model per task, for every search.")] = 30,
    faults: Annotated[
        tuple[float, float] | None, typer.Option(metavar="FROM TO", help="Train every row once more, with this share of failing calls, drawn per task.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
    set_: Set = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Train every method, play held-out tasks with and without search, and print the paper's table with intervals."""
    from steptool_env.reference import absolute_paths

    from ..config.config import merged
    from ..experiments.grid import SPLITS, Spec, rows, run_grid, with_faults
    from ..experiments.layout import FILES, as_markdown, write
    from ..experiments.stored import check_own
    from ..experiments.table import build

    console = make_console(json_)
    if not force:
        check_own(from_ or out, FILES)
    failed: list[Path] = []
    if from_ is None:
        importlib.import_module("..experiments.cells", __package__)  # a missing package fails here, not in the log of every cell
        chosen = absolute_paths(rows(method or ()))  # cells, and later the same grid, may start from other folders
        if settings is not None:
            from ..experiments.found import read_settings, tuned

            chosen = tuned(read_settings(settings), chosen)
        chosen |= with_faults(chosen, list(faults)) if faults else {}
        overrides = absolute_paths(pairs(set_, "--set"))
        splits = SPLITS if merged({}, overrides).get("task", {}).get("suite", "worlds") == "worlds" else {"held-out": {}}
        spec = Spec(chosen, list(range(seeds)), overrides, splits, searches=search or ["greedy", "dfsdt"], tasks=tasks, budget=budget)
        failed = run_grid(spec, out, processes=processes, on_cell=show_cells(console))
    result = build(from_ or out)
    show_result(result, as_markdown(result), write(result, from_ or out), failed, console, json=json_)
