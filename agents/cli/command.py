"""The ``steptool`` command. Each command imports what it needs when it runs, so commands without a model never load torch."""

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


def _version(requested: bool) -> None:
    if requested:
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
    """Run the command; invalid arguments and missing extras print one line and exit with 2."""
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)  # module:factory may be in the current folder; last, so that its files hide no package
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as fault:
        from steptool_env.errors import StepToolError, missing_extra

        error = missing_extra(f"steptool {sys.argv[1]}", fault) if isinstance(fault, ImportError) and len(sys.argv) > 1 else fault
        if not isinstance(error, StepToolError):
            raise
        print(f"steptool: {error}", file=sys.stderr)
        sys.exit(2)
