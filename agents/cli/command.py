"""The ``steptool`` command. Each command imports what it needs when it runs, so commands without a model never load torch."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from .ablate import ablate
from .authors import author_fault
from .evaluate import evaluate
from .export import export
from .report import report
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
for _command in (export, report, audit, table, ablate, play, view, demonstrations, suites):
    app.command()(_command)


def main() -> None:
    """Run the command; invalid arguments, files and disks that fail, missing extras and a user's own code that fails print one line and exit with 2."""
    try:
        if (folder := os.getcwd()) not in sys.path:
            sys.path.append(folder)  # module:object may be in the current folder; last, so that its files hide no package
        try:
            app()
        finally:
            sys.stdout.flush()  # a full disk shows here, not when Python ends
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as fault:
        message = _explain(fault)
        if not message:
            raise
        from ..show.terminal import sentence

        print(f"steptool: {sentence(message)}", file=sys.stderr)
        if isinstance(fault, OSError):
            _drop_output()
        sys.exit(2)


def _explain(fault: Exception) -> str:
    """Return what went wrong in a sentence; empty for a fault of this package's own."""
    from steptool_env.errors import StepToolError, missing_extra

    error = missing_extra(f"steptool {sys.argv[1]}", fault) if isinstance(fault, ImportError) and len(sys.argv) > 1 else fault
    if isinstance(error, StepToolError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this: {error or 'ask for less, such as fewer episodes at a time'}"
    if isinstance(error, OSError) and not isinstance(error, ImportError):
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        way_out = "; free some space, then go on: what was complete before is still there" if full else ""
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}{way_out}"
    return author_fault(error)


def _drop_output() -> None:
    """Point the output to nowhere if it cannot be written: Python would complain once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
