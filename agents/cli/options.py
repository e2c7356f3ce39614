"""Shared by the commands of ``steptool``: options, parsing of ``NAME=VALUE`` and settings files, the console."""

from __future__ import annotations

import json
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "MOST_SEED",
    "ConfigFile",
    "EpisodeBar",
    "Force",
    "Json",
    "Level",
    "Option",
    "Set",
    "ShaperOption",
    "check_target",
    "make_console",
    "pairs",
    "print_json",
    "read_settings_file",
    "suite_options",
    "value_of",
]

MOST_SEED = 2**63 - 1
"""The largest seed that all random generators take."""
_SHORT_NUMBER = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d{1,3})?")
"""What Python reads as a number and JSON does not: ``.5``, ``1.``"""


Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Level = Annotated[int | None, typer.Option(help="Difficulty, 1 to 5, for suites that have levels.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML or JSON: parts as in config.json, or names; --set comes on top.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change any setting, such as lr=1e-4 or learning.lr=1e-4; may be repeated.")]
ShaperOption = Annotated[list[str] | None, typer.Option("--shaper-option", metavar="NAME=VALUE", help="A keyword of the shaper; may be repeated.")]
Option = Annotated[list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="A keyword of the suite, such as 'depth=[1,3]'; may be repeated.")]


class EpisodeBar:
    """A progress bar over episodes that shows the success rate so far."""

    def __init__(self, console: Any, total: int) -> None:
        from ..show.progress import Bars

        self.progress = Bars(console=console)
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


def make_console(quiet: bool, *, stderr: bool = False) -> Any:
    """Return a Rich console that escapes what would control the terminal, whatever it is given; a quiet one prints nothing."""
    from ..show.terminal import SafeConsole

    return SafeConsole(quiet=quiet, stderr=stderr)


def print_json(value: Any) -> None:
    """Print one JSON object on one line, in ASCII without control characters."""
    print(json.dumps(value).replace("\x7f", "\\u007f"))


def check_target(path: Path, flag: str, force: bool, source: Path | None = None) -> None:
    """Check that a command may write a file, before it begins; pipes and devices have no content to lose, nor have empty files.

    Args:
        path: The file.
        flag: The option that named it, for the message.
        force: Replace a file that is there.
        source: The file that the command reads.

    Raises:
        InvalidArgument: The path is that of a folder, of the source, or of a file that is there and ``force`` is not set.
    """
    from steptool_env.errors import InvalidArgument

    if path.is_dir():
        raise InvalidArgument(f"{flag} takes a file, got the folder {str(path)!r}")
    if source is not None and path.exists() and path.samefile(source):
        raise InvalidArgument(f"{flag} {str(path)!r} would overwrite the file that is read; name another file")
    if path.is_file() and path.stat().st_size and not force:
        raise InvalidArgument(f"{flag} {str(path)!r} exists; name another file, or use --force to replace it")


def pairs(items: list[str] | None, flag: str) -> dict[str, Any]:
    """Parse items ``NAME=VALUE`` into a dict; values as for ``value_of``.

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
        values[name] = value_of(value, f"{flag} {name}")
    return values


def suite_options(items: list[str] | None, level: int | None, *flags: str) -> dict[str, Any]:
    """Return the keywords of a suite that ``--option`` and ``--level`` give.

    Args:
        items: The items of ``--option``; None for none.
        level: The value of ``--level``; takes precedence.
        flags: Names that this command has flags of their own for.

    Raises:
        InvalidArgument: An item is not ``NAME=VALUE``, or has one of these names.
    """
    from steptool_env.errors import InvalidArgument

    options = pairs(items, "--option")
    for name in ("suite", *flags):
        if name in options:
            raise InvalidArgument(f"--option {name}={options[name]} is not read here; use --{name} {options[name]}")
    return options | ({} if level is None else {"level": level})


def value_of(text: str, what: str) -> Any:
    """Return the value that a user has typed: JSON, a number without its zero (``.5``), or else the text itself.

    Args:
        text: What was typed.
        what: Its name, for the error message.

    Raises:
        InvalidArgument: It is nested too deeply, or a number is too large to count with.
    """
    from steptool_env.errors import InvalidArgument
    from steptool_env.files import parse_json

    from ..config.parts import bounded

    try:
        value = parse_json(text)
    except ValueError as fault:
        if text.lstrip()[:1] in ("[", "{") and "too deeply" in str(fault):
            raise InvalidArgument(f"{what}: {fault}") from None
        value = float(text) if _SHORT_NUMBER.fullmatch(text) else text
    bounded(value, what)
    return value


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return the settings of a file: YAML by its suffix, else JSON. A run's ``config.json`` is such a file.

    Raises:
        InvalidArgument: The file is missing, cannot be read, or holds no object.
        MissingExtra: YAML needs a package that is not installed.
    """
    from steptool_env.errors import InvalidArgument, MissingExtra
    from steptool_env.files import parse_json
    from steptool_env.jsontext import depth_fault

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise InvalidArgument(f"--config {str(path)!r} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError as fault:
        raise InvalidArgument(f"--config {str(path)!r} is no file of settings: {fault}") from None
    try:
        if too_deep := depth_fault(text):
            raise ValueError(too_deep)
        if path.suffix in (".yaml", ".yml"):
            try:
                import yaml
            except ImportError as fault:
                raise MissingExtra(f"--config {path.name}", "pyyaml", "pip install pyyaml") from fault
            try:
                if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                    raise ValueError("it has an alias (*name), which may make a short text endless")
                settings = yaml.safe_load(text)
                json.dumps(settings)
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            except (yaml.YAMLError, TypeError) as fault:  # TypeError: a date, or a key that is a list
                raise ValueError(fault) from None
        else:
            settings = parse_json(text)
        if not isinstance(settings, dict):
            raise ValueError(f"expected an object of settings, got {reprlib.repr(settings)}")
    except ValueError as fault:
        raise InvalidArgument(f"--config {str(path)!r} is no file of settings: {fault}") from fault
    settings.pop("format", None)
    return {str(name): value for name, value in settings.items()}
