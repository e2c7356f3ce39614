"""``WeightedSum``: several shapers at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from steptool_env.errors import InvalidArgument
from steptool_env.rewards.base import RewardShaper
from steptool_env.rewards.combinator import Combinator
from steptool_env.types import Transition

__all__ = ["WeightedSum"]


class WeightedSum(Combinator):
    """r = Σ_k w_k · r_k. Each part keeps its name; parts of the same name are added.

    Args:
        terms: Shapers, or pairs ``(weight, shaper)``.

    Raises:
        InvalidArgument: There is no term, or a weight is not a finite number.

    >>> from steptool_env.rewards import Final, StepCost
    >>> shaper = WeightedSum(Final(), (0.5, StepCost(0.02)))  # the verdict, less 0.01 a step
    """

    def __init__(self, *terms: RewardShaper | tuple[float, RewardShaper]) -> None:
        if not terms:
            raise InvalidArgument("a weighted sum needs at least one shaper, got none")
        pairs = [term if isinstance(term, tuple) else (1.0, term) for term in terms]
        for pair in pairs:
            if len(pair) != 2 or not isinstance(pair[0], int | float) or not math.isfinite(pair[0]):
                raise InvalidArgument(f"a term must be a shaper or a pair (weight, shaper) with a finite weight, got {pair!r}")
        super().__init__(*(shaper for _, shaper in pairs))
        self.weights = tuple(float(weight) for weight, _ in pairs)

    def combine(self, parts: Sequence[Mapping[str, float]], past: Sequence[Transition]) -> Mapping[str, float]:
        total: dict[str, float] = {}
        for weight, child_parts in zip(self.weights, parts, strict=True):
            for name, value in child_parts.items():
                total[name] = total.get(name, 0.0) + weight * value
        return total
