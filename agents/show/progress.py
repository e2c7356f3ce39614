"""How far a long command is: bars on a terminal; where the output goes to a file or a pipe, a plain line every half minute."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .terminal import sentence

__all__ = ["Bars", "Lines", "run_bars"]

EVERY = 30.0
"""Seconds between two lines."""


class Lines:
    """Lines on the error stream, at most one every half minute; none where bars are seen, or nothing is to be shown.

    Args:
        console: Where the bars would be.
    """

    def __init__(self, console: Console) -> None:
        self._silent = console.quiet or console.is_terminal or console.is_jupyter
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Print a text as one line, if the last one is half a minute ago."""
        if not self._silent and (now := time.monotonic()) - self._last >= EVERY:
            self._last = now
            print(sentence(text), file=sys.stderr, flush=True)


class Bars(Progress):
    """Rich's progress bars, and ``Lines`` of them where nobody would see them move."""

    def __init__(self, *columns: Any, console: Console) -> None:
        super().__init__(*columns, console=console)
        self._lines = Lines(console)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a bar, as Rich does."""
        super().update(task_id, **changes)
        bar = self._tasks[task_id]
        of = f" of {bar.total:,.0f}" if bar.total is not None else ""
        left = f", {_clock(bar.time_remaining)} left" if bar.time_remaining else ""
        note = f"; {bar.fields['note']}" if bar.fields.get("note") else ""
        self._lines.say(f"{bar.description}: {bar.completed:,.0f}{of} in {_clock(bar.elapsed or 0.0)}{left}{note}")


def run_bars(console: Console) -> Bars:
    """Return the bars of a run: what is done, how much of it, time used and left, and a note."""
    return Bars(
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
