"""What a run measured, without what the clock says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steptool_agents.runs.trackers import read_metrics

__all__ = ["timeless"]


def timeless(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics without seconds, shares of time, and speeds."""
    return [{name: value for name, value in line.items() if not any(part in name for part in ("second", "share"))} for line in read_metrics(out)]
