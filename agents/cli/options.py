"""What the commands of ``steptool`` share: options, reading ``NAME=VALUE``, where they print."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

__all__ = ["EpisodeBar", "Json", "Level", "Option", "Set", "ShaperOption", "Split", "make_console", "pairs"]


class Split(StrEnum):
    """What ``eval`` plays."""

    train = "train"
    test = "test"
    all = "all"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Level = Annotated[int | None, typer.Option(help="Difficulty, 1 to 5, for suites that have levels.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change any setting of config.json; may be repeated.")]
ShaperOption = Annotated[list[str] | None, typer.Option("--shaper-option", metavar="NAME=VALUE", help="A keyword of the shaper; may be repeated.")]
Option = Annotated[list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="A keyword of the suite, such as depth=[1,3]; may be repeated.")]


class EpisodeBar:
    """A progress bar over episodes, with the success so far."""

    def __init__(self, console: Any, total: int) -> None:
        from rich.progress import Progress

        self.progress = Progress(console=console)
        self.task = self.progress.add_task("playing", total=total)
        self.done, self.solved = 0, 0.0

    def __enter__(self) -> EpisodeBar:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def advance(self, trajectory: Any) -> None:
        """Count an episode."""
        self.done += 1
        self.solved += trajectory.success
        self.progress.update(self.task, completed=self.done, description=f"playing, success {self.solved / self.done:.2f}")


def make_console(quiet: bool) -> Any:
    """Return a Rich console; a quiet one prints nothing."""
    from rich.console import Console

    return Console(quiet=quiet)


def pairs(items: list[str] | None, flag: str) -> dict[str, Any]:
    """Read ``NAME=VALUE``; the value is JSON where it is JSON, else text.

    Raises:
        InvalidArgument: An item is not of this form; the message names the flag.
    """
    from steptool_env.errors import InvalidArgument

    found: dict[str, Any] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"{flag} takes NAME=VALUE, got {item!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
