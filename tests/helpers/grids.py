"""Settings of runs that take seconds, for tests of grids."""

from __future__ import annotations

from typing import Any

__all__ = ["SMALL"]

SMALL: dict[str, Any] = {"suite_options": {"level": 1}, "demos": 8, "demo_batch": 4, "updates": 1, "episodes": 4, "eval_episodes": 2, "max_steps": 3}
