"""``Clip``: keep the reward of a step within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.errors import InvalidArgument
from steptool_env.rewards.base import RewardShaper
from steptool_env.rewards.combinator import Combinator
from steptool_env.types import Transition

__all__ = ["Clip"]


class Clip(Combinator):
    """min(high, max(low, r)) of a shaper's reward r. Its parts stay as they are; a further part ``clip`` holds the difference.

    Clipping can break a shaper that was safe: gains and losses that canceled each other out may no longer do so. Audit the result.

    Args:
        shaper: Whose reward is clipped.
        low: Least reward of a step.
        high: Largest reward of a step.

    Raises:
        InvalidArgument: ``low`` is not below ``high``.
    """

    def __init__(self, shaper: RewardShaper, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__(shaper)
        if not low < high:
            raise InvalidArgument(f"low must be below high, got low={low!r} and high={high!r}")
        self.low, self.high = low, high

    def combine(self, parts: Sequence[Mapping[str, float]], past: Sequence[Transition]) -> Mapping[str, float]:
        total = sum(parts[0].values(), 0.0)
        if "clip" in parts[0]:
            raise InvalidArgument("the clipped shaper has a part 'clip' already; clip once, with the narrower bounds")
        return {**parts[0], "clip": min(self.high, max(self.low, total)) - total}
