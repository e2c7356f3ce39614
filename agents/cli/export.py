"""The command ``steptool export``: what a run has trained, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, make_console, print_json

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    to: Annotated[Path, typer.Option(help="The folder to write: a new one, or an empty one.", show_default=False)],
    adapters: Annotated[bool, typer.Option("--adapters/--merged", help="Of a run with lora_rank: the adapters alone, or added to the weights.")] = False,
    warm_start: Annotated[bool, typer.Option("--warm-start", help="The policy before reinforcement learning.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in --to.")] = False,
    json_: Json = False,
) -> None:
    """Write what a run has trained as a folder that transformers, peft and vLLM load, with a model card."""
    from ..runs.card import CARD
    from ..runs.export import export_run

    folder = export_run(run, to, adapters=adapters, warm_start=warm_start, force=force)
    if json_:
        print_json({"run": str(run), "folder": str(folder), "files": sorted(path.name for path in folder.iterdir())})
        return
    console = make_console(json_)
    console.print(f"Saved in {folder}. {CARD} says what it is and how to load it.", markup=False, highlight=False, soft_wrap=True)
