"""Reward shapers: one file per idea. A shaper is any callable from the episode so far to the parts of its last step's reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.rewards.base import RewardShaper
from steptool_env.rewards.final import Final
from steptool_env.rewards.steptool import StepTool

__all__ = ["SHAPERS", "Final", "RewardShaper", "StepTool", "make_shaper"]

SHAPERS: dict[str, Callable[..., RewardShaper]] = {"final": Final, "steptool": StepTool}
"""Name -> factory of a shaper."""


def make_shaper(shaper: str | RewardShaper, **options: Any) -> RewardShaper:
    """Return the shaper of this name, or the callable itself; raises ``UnknownName`` with what exists."""
    if isinstance(shaper, str):
        if shaper not in SHAPERS:
            raise UnknownName("shaper", shaper, SHAPERS)
        return SHAPERS[shaper](**options)
    if not callable(shaper):
        raise InvalidArgument(f"shaper must be a name or a callable, got {shaper!r}; names: {', '.join(sorted(SHAPERS))}")
    return shaper
