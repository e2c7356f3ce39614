"""Credit assignment: how the rewards are attributed to steps or tokens. Pure functions of float64 arrays."""

from __future__ import annotations

from .episodes import Episodes
from .one_episode import rewards_to_go, step_gae, step_returns
from .schemes import CREDIT, Scheme

__all__ = ["CREDIT", "Episodes", "Scheme", "rewards_to_go", "step_gae", "step_returns"]
