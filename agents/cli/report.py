"""The command ``steptool report``: a run as a page, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, Json, check_target, make_console, print_json

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(help="A run's folder, or several.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the run's folder by default, or here for several runs.")] = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Write settings, curves, results, episodes and costs as one page for a browser; also of a run that has not ended."""
    from steptool_env.errors import InvalidArgument
    from steptool_env.sealed import is_sealed, sealing

    from ..runs.record import read_records
    from ..runs.results import PAGE
    from ..show.report import report_page

    records = read_records(runs)
    target = out or (runs[0] / PAGE if len(runs) == 1 else Path(PAGE))
    own = target.is_file() and is_sealed(target)
    check_target(target, "--out", force or own)
    if not target.resolve().parent.is_dir():
        raise InvalidArgument(f"--out takes a file in a folder that exists, got {str(target)!r}")
    with sealing(target) as temporary:
        temporary.write_text(report_page(records), encoding="utf-8")
    if json_:
        print_json({"page": str(target), "runs": [record.name for record in records]})
    else:
        make_console(False).print(f"Saved: {target}", markup=False, highlight=False, soft_wrap=True)
