"""``repetition``: the verdict less a price for calls that were made before and say nothing new."""

from __future__ import annotations

import json
from collections.abc import Mapping

from steptool_env.rewards.base import Stateful
from steptool_env.rewards.final import Final
from steptool_env.rewards.weighted_sum import WeightedSum
from steptool_env.types import Malformed, Transition, whose

__all__ = ["Repetition", "final_and_repetition"]


class Repetition(Stateful[set[str]]):
    """−penalty for an action that was taken before and got the same result; a call that now gets a new result is free, and so is one
    that failed by somebody else's fault: to try again is right.

    Args:
        penalty: The price of a repeated action.
    """

    def __init__(self, penalty: float = 0.05) -> None:
        self.penalty = penalty

    def start(self) -> set[str]:
        return set()

    def advance(self, state: set[str], last: Transition) -> tuple[set[str], Mapping[str, float]]:
        if whose(last.result.error) not in ("", "model"):
            return state, {"repetition": 0.0}
        action = last.action
        action_text = action.text if isinstance(action, Malformed) else json.dumps(action.as_dict(), sort_keys=True, default=repr)
        exchange = f"{action_text}\n{last.result.content}"
        repeated = exchange in state
        state.add(exchange)
        return state, {"repetition": -self.penalty if repeated else 0.0}


def final_and_repetition(penalty: float = 0.05) -> WeightedSum:
    """Return the verdict less ``penalty`` for every repeated action."""
    return WeightedSum(Final(), Repetition(penalty))
