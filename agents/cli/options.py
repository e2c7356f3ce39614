"""Shared by the commands of ``steptool``: options, parsing of ``NAME=VALUE`` and settings files, the console."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["ConfigFile", "EpisodeBar", "Json", "Level", "Option", "Set", "ShaperOption", "Split", "make_console", "pairs", "read_settings_file"]


class Split(StrEnum):
    """The tasks that ``eval`` plays."""

    train = "train"
    test = "test"
    all = "all"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Level = Annotated[int | None, typer.Option(help="Difficulty, 1 to 5, for suites that have levels.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML or JSON: parts as in config.json, or names; --set comes on top.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change any setting, such as lr=1e-4 or learning.lr=1e-4; may be repeated.")]
ShaperOption = Annotated[list[str] | None, typer.Option("--shaper-option", metavar="NAME=VALUE", help="A keyword of the shaper; may be repeated.")]
Option = Annotated[list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="A keyword of the suite, such as depth=[1,3]; may be repeated.")]


class EpisodeBar:
    """A progress bar over episodes that shows the success rate so far."""

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
    """Parse items ``NAME=VALUE`` into a dict; a value that is not JSON is text.

    Args:
        items: The items; None for none.
        flag: Name of the flag, for the error message.

    Raises:
        InvalidArgument: An item is not of this form; the message names the flag.
    """
    from steptool_env.errors import InvalidArgument

    values: dict[str, Any] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"{flag} takes NAME=VALUE, got {item!r}")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the settings of a file: YAML by its suffix, else JSON. A run's ``config.json`` is such a file.

    Raises:
        InvalidArgument: The file is missing, cannot be read, or holds no object.
        MissingExtra: YAML needs a package that is not installed.
    """
    from steptool_env.errors import InvalidArgument, MissingExtra

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise InvalidArgument(f"--config {str(path)!r} cannot be read: {fault.strerror}") from None
    try:
        if path.suffix in (".yaml", ".yml"):
            try:
                import yaml
            except ImportError as fault:
                raise MissingExtra(f"--config {path.name}", "pyyaml", "pip install pyyaml") from fault
            try:
                settings = yaml.safe_load(text)
            except yaml.YAMLError as fault:
                raise ValueError(fault) from None
        else:
            settings = json.loads(text)
        if not isinstance(settings, dict):
            raise ValueError(f"expected an object of settings, got {settings!r:.80}")
    except ValueError as fault:
        raise InvalidArgument(f"--config {str(path)!r} is no file of settings: {fault}") from fault
    settings.pop("format", None)
    return {str(name): value for name, value in settings.items()}
