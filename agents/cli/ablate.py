"""The command ``steptool ablate``: what settings are worth, in every combination."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from .grids import show_cells, show_result
from .options import Force, Json, Set, make_console, pairs, value_of

__all__ = ["ablate"]


def ablate(
    factors: Annotated[list[str] | None, typer.Argument(metavar="NAME=LEVEL,LEVEL…", help="A setting and its levels, such as learning.lam=0,.5,.9")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, … of every combination.")] = 3,
    out: Annotated[Path, typer.Option(help="The ablation's folder; one that was killed goes on where it stopped.")] = Path("runs/ablation"),
    from_: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Only rebuild the table from the episodes stored there.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Held-out tasks that every policy plays.")] = 200,
    processes: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
    set_: Set = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Train every combination of some settings with several seeds; write a table with intervals, and a picture."""
    from steptool_env.errors import InvalidArgument

    from ..experiments.ablation import FILES, ablation_spec, as_markdown, build, write
    from ..experiments.grid import run_grid
    from ..experiments.stored import check_own

    if (from_ is None) is (not factors):
        raise InvalidArgument("give factors, such as learning.lam=0,.5,.9, or --from with the folder of an ablation")
    if not force:
        check_own(from_ or out, FILES)
    console = make_console(json_)
    failed: list[Path] = []
    if from_ is None:
        importlib.import_module("..experiments.cells", __package__)  # a missing package fails here, not in the log of every cell
        spec = ablation_spec(read_factors(factors or ()), seeds=seeds, settings=pairs(set_, "--set"), tasks=tasks)
        console.print(f"{len(spec.methods)} combinations, {seeds} seeds; {_plays(spec)}", markup=False, highlight=False, soft_wrap=True)
        failed = run_grid(spec, out, processes=processes, on_cell=show_cells(console))
    table = build(from_ or out)
    show_result(table, as_markdown(table), write(table, from_ or out), failed, console, json=json_)


def read_factors(items: list[str] | tuple[()]) -> dict[str, list[Any]]:
    """Return name -> levels of factors as they are typed; commas within brackets, braces and quotes separate no levels.

    >>> read_factors(["lam=0,.5", "suite.depth=[1,2],[3,4]", "algo=rloo,mine.py:train"])
    {'lam': [0, 0.5], 'suite.depth': [[1, 2], [3, 4]], 'algo': ['rloo', 'mine.py:train']}

    Raises:
        InvalidArgument: An item is not of this form, or a factor is given twice.
    """
    from steptool_env.errors import InvalidArgument

    found: dict[str, list[Any]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not name or not equals or not text:
            raise InvalidArgument(f"a factor is NAME=LEVEL,LEVEL…, got {item!r}")
        if name in found:
            raise InvalidArgument(f"factor {name!r} is given twice; put all its levels into one")
        found[name] = [value_of(part, f"factor {name}") for part in _levels(text)]
    return found


def _levels(text: str) -> list[str]:
    parts, depth, quoted, escaped = [""], 0, False, False
    for char in text:
        if char == "," and not depth and not quoted:
            parts.append("")
            continue
        parts[-1] += char
        if escaped or char == "\\":
            escaped = not escaped and char == "\\"
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += (char in "[{") - (char in "]}")
    return parts


def _plays(spec: Any) -> str:
    """Return what the runs play, those of the first combination."""
    from steptool_env.tasks import make_suite

    from ..runs.plays import what_it_plays

    config = spec.config(next(iter(spec.methods)), 0)
    suites = [make_suite(config.task.suite, **{**config.task.suite_options, "split": split}) for split in ("train", "test")]
    return what_it_plays(config.replace(eval_episodes=spec.tasks), *suites)
