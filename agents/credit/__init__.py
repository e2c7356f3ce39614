"""Who gets what of a reward: pure functions of arrays, float64 in and out."""

from __future__ import annotations

from .episodes import Episodes
from .schemes import CREDIT, Scheme, rewards_to_go, step_gae, step_returns

__all__ = ["CREDIT", "Episodes", "Scheme", "rewards_to_go", "step_gae", "step_returns"]
