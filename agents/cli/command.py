"""The ``steptool`` command. Imports what a command needs when it runs: without a model it never loads torch."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .evaluate import evaluate
from .table import table
from .tasks import audit, demonstrations, play, suites
from .train import train
from .view import view

__all__ = ["app", "main"]

app = typer.Typer(
    name="steptool",
    help="Study and train multi-step tool use: environments, rewards for every step, policies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from steptool_env import __version__

        typer.echo(f"steptool {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


app.command()(train)  # --help lists them in this order
app.command(name="eval")(evaluate)
for _command in (audit, table, play, view, demonstrations, suites):
    app.command()(_command)


def main() -> None:
    """Run the command; a mistake in its arguments, or an extra that is not installed, prints one line and exits with 2."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # module:factory may lie in the current folder; last, so that nothing there hides a package
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as fault:
        from steptool_env.errors import StepToolError, missing_extra

        said = missing_extra(f"steptool {sys.argv[1]}", fault) if isinstance(fault, ImportError) and len(sys.argv) > 1 else fault
        if not isinstance(said, StepToolError):
            raise
        print(f"steptool: {said}", file=sys.stderr)
        sys.exit(2)
