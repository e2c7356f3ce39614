"""``worlds``: endless generated tasks over small typed worlds, with exact solutions and an exact measure of progress."""

from __future__ import annotations

from steptool_env.tasks.worlds.levels import LEVELS
from steptool_env.tasks.worlds.splits import SPLITS
from steptool_env.tasks.worlds.suite import Worlds

__all__ = ["LEVELS", "SPLITS", "Worlds"]
