"""``read_record``: what a run has left in its folder so far, for its report; also that of a run that is still going on, or was killed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steptool_env.errors import InvalidArgument

from ..show.report import RunRecord
from .folder import read_config
from .results import REPORT, read_episodes, read_report
from .trackers import read_metrics

__all__ = ["MOST_RUNS", "read_record", "read_records"]

MOST_RUNS = 12
"""Most runs side by side: more lines than that nobody can tell apart."""


def read_record(run: Path, name: str = "") -> RunRecord:
    """Return what a run has left; episodes and report only if it has ended.

    Args:
        run: Its folder.
        name: What it is called; by default as its folder.

    Raises:
        CheckpointError: The folder holds no run, or a file is not what was written.
        DataError: A line of the metrics or of the episodes is broken.
    """
    config = read_config(run)
    report = read_report(run) if (run / REPORT).is_file() else None
    after = read_episodes(run) if report is not None else []
    return RunRecord(name or run.resolve().name, config, read_metrics(run), report, read_episodes(run, before=True), after)


def read_records(runs: Sequence[Path]) -> list[RunRecord]:
    """Return the records of several runs, named by the part of their paths in which they differ.

    Raises:
        InvalidArgument: There are too many, or one is named twice.
    """
    paths = [run.resolve() for run in runs]
    if len(paths) > MOST_RUNS:
        raise InvalidArgument(f"a report shows up to {MOST_RUNS} runs side by side, got {len(paths)}; name fewer of them")
    if len(set(paths)) < len(paths):
        raise InvalidArgument(f"every run once, got {', '.join(map(str, runs))}")
    return [read_record(run, name) for run, name in zip(runs, _names(paths), strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that differ, without what they all end in."""
    if len(paths) == 1:
        return [paths[0].parent.name if paths[0].name == "run" else paths[0].name]
    parts = [path.parts for path in paths]
    while len({one[-1] for one in parts}) == 1 and all(len(one) > 1 for one in parts):
        parts = [one[:-1] for one in parts]
    size = next(size for size in range(1, max(map(len, parts)) + 1) if len({one[-size:] for one in parts}) == len(parts))
    return ["/".join(one[-size:]) for one in parts]
