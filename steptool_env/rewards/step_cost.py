"""``step-cost``: the verdict less a small price for every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.rewards.final import Final
from steptool_env.rewards.weighted_sum import WeightedSum
from steptool_env.types import Transition

__all__ = ["StepCost", "final_and_step_cost"]


class StepCost:
    """−cost for every step. Keep cost × budget well below 1, or giving up at once beats solving.

    Args:
        cost: The price of a step.
    """

    def __init__(self, cost: float = 0.01) -> None:
        self.cost = cost

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        return {"step_cost": -self.cost}


def final_and_step_cost(cost: float = 0.01) -> WeightedSum:
    """Return the verdict less ``cost`` for every step."""
    return WeightedSum(Final(), StepCost(cost))
