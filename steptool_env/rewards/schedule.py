"""``Schedule``: a weight that changes over the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steptool_env.errors import InvalidArgument
from steptool_env.rewards.base import RewardShaper
from steptool_env.rewards.combinator import Combinator
from steptool_env.types import Transition

__all__ = ["Schedule"]


class _Clock:
    """How much of the training is done; one object, shared by all copies of a schedule."""

    def __init__(self) -> None:
        self.progress = 0.0


class Schedule(Combinator):
    """w(p) · r, with p the share of the training that is done; the training loop sets it before every update.

    Args:
        shaper: What is weighted.
        weight: w: from p in [0, 1] to a weight; or a pair ``(first, last)``, between which it changes linearly.

    Raises:
        InvalidArgument: ``weight`` is neither.

    >>> from steptool_env.rewards import Final, StepTool, WeightedSum
    >>> shaper = WeightedSum(Final(), Schedule(StepTool(), (1.0, 0.0)))  # dense rewards that fade out
    """

    def __init__(self, shaper: RewardShaper, weight: Callable[[float], float] | tuple[float, float]) -> None:
        super().__init__(shaper)
        if not callable(weight) and not (isinstance(weight, tuple | list) and len(weight) == 2):
            raise InvalidArgument(f"weight must be a function of the progress or a pair (first, last), got {weight!r}")
        self.weight = weight
        self.clock = _Clock()

    def set_progress(self, progress: float) -> None:
        """Say how much of the training is done, in [0, 1]."""
        if not 0 <= progress <= 1:
            raise InvalidArgument(f"the progress of a training must lie in [0, 1], got {progress!r}")
        self.clock.progress = progress

    def combine(self, parts: Sequence[Mapping[str, float]], past: Sequence[Transition]) -> Mapping[str, float]:
        p = self.clock.progress
        weight = self.weight(p) if callable(self.weight) else self.weight[0] + p * (self.weight[1] - self.weight[0])
        return {name: weight * value for name, value in parts[0].items()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "progress": self.clock.progress}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.set_progress(state["progress"])
