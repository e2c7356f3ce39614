"""``Normalize``: rewards of about unit size, whatever the shaper's scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.errors import InvalidArgument
from steptool_env.rewards.base import RewardShaper
from steptool_env.rewards.combinator import Combinator
from steptool_env.types import Transition, whose

__all__ = ["Normalize", "Running"]


class Running:
    """Running mean square of a stream of numbers."""

    def __init__(self) -> None:
        self.count = 0
        self.mean_square = 0.0
        self.frozen = False
        """True while numbers are scaled, but not counted."""

    def add(self, value: float) -> None:
        """Count a number: m_n = m_{n−1} + (x² − m_{n−1}) / n."""
        self.count += 1
        self.mean_square += (value * value - self.mean_square) / self.count


class Normalize(Combinator):
    """r / sqrt(mean of r² over all steps so far + ε).

    Rewards are scaled, not centered: to take the mean off every step's reward would pay for shorter or longer episodes.
    The statistic outlives episodes, is shared by all environments that got this shaper, and belongs in a checkpoint
    (``state_dict``). It counts each step once, when its final reward is known. Environments forked for planning count, too.

    Args:
        shaper: Whose reward is scaled; all of its parts by the same factor.
        epsilon: ε.

    Raises:
        InvalidArgument: ``epsilon`` is not positive.
    """

    def __init__(self, shaper: RewardShaper, epsilon: float = 1e-8) -> None:
        super().__init__(shaper)
        if not epsilon > 0:
            raise InvalidArgument(f"epsilon must be positive, got {epsilon!r}")
        self.epsilon = epsilon
        self.running = Running()

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        parts = self.children[0](episode)
        memory = getattr(episode, "memory", None)
        seen = memory is not None and memory.get(self) == len(episode)  # the environment asks again after the end
        if memory is not None:
            memory[self] = len(episode)
        return self._scaled(parts, count=not seen and not self.known_later and whose(episode[-1].result.error) != "infrastructure")

    def combine(self, parts: Sequence[Mapping[str, float]], past: Sequence[Transition]) -> Mapping[str, float]:
        return self._scaled(parts[0], count=whose(past[-1].result.error) != "infrastructure")

    def _scaled(self, parts: Mapping[str, float], count: bool) -> Mapping[str, float]:
        if count and not self.running.frozen:
            self.running.add(sum(parts.values(), 0.0))
        scale = 1.0 / math.sqrt(self.running.mean_square + self.epsilon) if self.running.count else 1.0
        return {name: scale * value for name, value in parts.items()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "count": self.running.count, "mean_square": self.running.mean_square}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.running.count, self.running.mean_square = int(state["count"]), float(state["mean_square"])
