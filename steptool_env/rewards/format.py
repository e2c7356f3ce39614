"""``format``: the verdict less a price for text that is not a call, or a call that its tool does not take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.rewards.final import Final
from steptool_env.rewards.weighted_sum import WeightedSum
from steptool_env.types import Transition

__all__ = ["Format", "final_and_format"]

_FAULTS = frozenset(("malformed", "unknown_tool", "bad_arguments"))


class Format:
    """−penalty for a step that is malformed, names no tool on offer, or passes arguments that the tool does not take.

    It only charges and never pays: a bonus for good form could be collected forever.

    Args:
        penalty: The price of such a step.
    """

    def __init__(self, penalty: float = 0.05) -> None:
        self.penalty = penalty

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        return {"format": -self.penalty if episode[-1].result.error in _FAULTS else 0.0}


def final_and_format(penalty: float = 0.05) -> WeightedSum:
    """Return the verdict less ``penalty`` for every step in bad form."""
    return WeightedSum(Final(), Format(penalty))
