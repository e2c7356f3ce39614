"""What the commands that run a grid of runs have in common: how it goes on, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from .options import print_json

__all__ = ["show_cells", "show_result"]


def show_cells(console: Console) -> Callable[[str, int, str], None]:
    """Return what says of each cell, by its method and seed, how it stands."""

    def show(name: str, seed: int, state: str) -> None:
        console.print(f"{name}, seed {seed}: {state}", markup=False, highlight=False)

    return show


def show_result(table: Mapping[str, Any], text: str, files: Sequence[Path], failed: Sequence[Path], console: Console, *, json: bool) -> None:
    """Print a table, where it is, and which cells failed.

    Args:
        table: For programs.
        text: The same for people.
        files: Where it was written.
        failed: Folders of the cells that failed; the command ends with exit code 1 if there are any.
        console: For what is not the table.
        json: Print the table for programs.
    """
    from steptool_env.rendering import printable

    from ..show.terminal import sentence

    if json:
        print_json(table)
    else:
        print(printable(text))
    console.print(f"Saved: {', '.join(map(str, files))}", markup=False)
    for folder in failed:
        print(f"steptool: {sentence(folder)} failed; its log.txt says why", file=sys.stderr)
    if failed:
        raise typer.Exit(1)
