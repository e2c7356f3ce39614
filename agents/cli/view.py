"""The command ``steptool view``: look at the episodes of a file. It needs no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, Json, check_target, make_console, print_json

__all__ = ["view"]


def view(
    path: Annotated[Path, typer.Argument(help="A file of trajectories, or a run's folder.", show_default=False)],
    episode: Annotated[int | None, typer.Option(min=0, help="Show this episode step by step: its index in the file.")] = None,
    full: Annotated[bool, typer.Option("--full", help="With --episode: show long texts whole.")] = False,
    solved: Annotated[bool | None, typer.Option("--solved/--failed", help="Only episodes that were solved, or that were not.")] = None,
    task: Annotated[str | None, typer.Option(help="Only episodes of the task with this id.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only tasks with this tag, such as depth=4; may be repeated.")] = None,
    error: Annotated[str | None, typer.Option(metavar="KIND", help="Only episodes with this error of a tool, such as bad_arguments.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 20,
    html: Annotated[Path | None, typer.Option(help="Write the episodes to this file, as one page for a browser.")] = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Show what a model did, episode by episode or step by step, and what it earned."""
    from steptool_env.errors import CheckpointError, InvalidArgument
    from steptool_env.sealed import verified

    from ..rollouts.evaluate import summarize
    from ..show.episodes import episode_view, find_file, line, overview, select, summary_line
    from ..trajectory import read_jsonl

    if full and episode is None:
        raise InvalidArgument("--full needs --episode, the index of the one to show whole")
    file = find_file(path)
    if html is not None:
        check_target(html, "--html", force, source=file)
        if not html.parent.is_dir():
            raise InvalidArgument(f"--html takes a file in a folder that exists, got {str(html)!r}")
    if file.is_file():  # a pipe is read once
        verified(file, "delete it: a run writes it again with --resume, a grid with the next steptool table")
    trajectories = read_jsonl(file)
    if not trajectories:
        raise CheckpointError(f"{file} has no episode: it is empty")
    if episode is not None and episode >= len(trajectories):
        raise InvalidArgument(f"--episode {episode}: {file} has the episodes 0 to {len(trajectories) - 1}")
    chosen = select(trajectories, solved=solved, task=task, tags=tag or (), error=error)
    if episode is not None:
        chosen = {index: trajectory for index, trajectory in chosen.items() if index == episode}
    lines = [line(index, trajectory) for index, trajectory in chosen.items()]
    report = summarize(list(chosen.values())) if chosen else None
    if html is not None:
        from steptool_env.files import write_text

        from ..show.page import episodes_page

        write_text(html, episodes_page(str(file), chosen))
    if json_:
        print_json({"file": str(file), "summary": report.as_dict() if report is not None else None, "episodes": lines})
        return
    console = make_console(False)
    about = summary_line(report) if report is not None else f"None of the {len(trajectories)} episodes fits."
    if html is not None:
        console.print(f"{about}\nSaved: {html}", markup=False, highlight=False)
    elif report is None:
        console.print(about)
    elif episode is not None:
        console.print(episode_view(episode, chosen[episode], full=full))
    else:
        console.print(overview(lines[:limit]))
        if len(lines) > limit:
            console.print(f"… and {len(lines) - limit} more: --limit {len(lines)}", style="dim", markup=False, highlight=False)
        console.print(about, style="bold", markup=False, highlight=False)
        console.print(f"One of them step by step: --episode {lines[0]['index']}", style="dim", markup=False, highlight=False)
