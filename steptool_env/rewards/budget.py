"""``budget``: the verdict less a price for letting the step budget run out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.rewards.final import Final
from steptool_env.rewards.weighted_sum import WeightedSum
from steptool_env.types import Transition, whose

__all__ = ["Budget", "final_and_budget"]


class Budget:
    """−penalty at the step that uses up the budget without an answer; an infrastructure fault costs nothing.

    Args:
        penalty: The price of not finishing in time.
    """

    def __init__(self, penalty: float = 0.2) -> None:
        self.penalty = penalty

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        return {"budget": -self.penalty if last.truncated and whose(last.result.error) != "infrastructure" else 0.0}


def final_and_budget(penalty: float = 0.2) -> WeightedSum:
    """Return the verdict less ``penalty`` if the budget runs out."""
    return WeightedSum(Final(), Budget(penalty))
