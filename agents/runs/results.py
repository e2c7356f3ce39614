"""What comes out of a run, in its folder: the held-out episodes, the report for programs and for people, the learning curve."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steptool_env.files import write_text
from steptool_env.sealed import read_sealed, sealing, verified

from ..config import Config
from ..show.report import RunRecord, report_page
from ..trajectory import Trajectory, read_jsonl, write_jsonl
from .trackers import read_metrics

__all__ = ["RESULTS", "read_episodes", "read_report", "write_before", "write_report"]

# Said before training, not after it. To import it takes a second, and most processes draw nothing.
if importlib.util.find_spec("matplotlib") is None:
    raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

REPORT, PAGE, TRAJECTORIES, BEFORE, CURVE = RESULTS = ("report.json", "report.html", "trajectories.jsonl", "before.jsonl", "learning_curve.png")


def read_report(run: Path) -> dict[str, Any]:
    """Return the report of a run that has ended, verified; raises ``CheckpointError``."""
    return read_sealed(run / REPORT, f"delete it, and the run writes it again: steptool train --resume --out {run}")


def read_episodes(run: Path, *, before: bool = False) -> list[Trajectory]:
    """Return the held-out episodes played after training, or before it, verified; empty if there are none yet.

    Raises:
        CheckpointError: The file is not what was written.
        DataError: A line is broken.
    """
    path = run / (BEFORE if before else TRAJECTORIES)
    if not path.is_file():
        return []
    way_out = "delete it: the report does without it" if before else f"delete it, and the run writes it again: steptool train --resume --out {run}"
    verified(path, way_out)
    return read_jsonl(path)


def write_before(run: Path, trajectories: Sequence[Trajectory]) -> None:
    """Write ``before.jsonl``: the held-out episodes played before training."""
    with sealing(run / BEFORE) as temporary:
        write_jsonl(temporary, trajectories)


def write_report(run: Path, config: Config, report: Mapping[str, Any], trajectories: Sequence[Trajectory]) -> None:
    """Write ``trajectories.jsonl``, ``report.json``, ``report.html`` and, if the run has made updates, ``learning_curve.png``.

    Args:
        run: The run's folder.
        config: Its settings.
        report: As ``Run.finish`` returns it.
        trajectories: The held-out episodes played after training.
    """
    with sealing(run / TRAJECTORIES) as temporary:
        write_jsonl(temporary, trajectories)
    metrics = read_metrics(run)
    if report["updates"]:
        with sealing(run / CURVE) as temporary:
            from ..show.curve import learning_curve  # needs matplotlib, see above

            learning_curve(metrics, dict(report), temporary)
    record = RunRecord(run.resolve().name, config, metrics, report, read_episodes(run, before=True), trajectories)
    with sealing(run / PAGE) as temporary:
        write_text(temporary, report_page([record]))
    with sealing(run / REPORT) as temporary:  # the last one: a run with a report is done
        temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
