"""``worlds``: endless generated tasks over small typed worlds, with exact solutions and an exact measure of progress."""

from __future__ import annotations

from steptool_env.tasks.worlds.suite import LEVELS, Worlds

__all__ = ["LEVELS", "Worlds"]
