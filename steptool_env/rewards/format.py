"""``format``: the verdict less a price for text that is not a call, a call that its tool does not take, or one that had to be repaired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from steptool_env.errors import InvalidArgument
from steptool_env.rewards.final import Final
from steptool_env.rewards.weighted_sum import WeightedSum
from steptool_env.types import ToolCall, Transition

__all__ = ["Format", "final_and_format"]

_FAULTS = frozenset(("malformed", "unknown_tool", "bad_arguments"))


class Format:
    """−penalty for a step that is malformed, names no tool on offer, or passes arguments that the tool does not take; and, where a price is
    set for them, −repair for a call whose text had to be repaired before it could be read.

    It only charges and never pays: a bonus for good form could be collected forever. Repairs are what a call format forgives
    (``ToolCall.repaired``, the names are in ``steptool_env.REPAIRS``); a step is charged once, however many slips it has.

    Args:
        penalty: The price of a step in bad form.
        repair: The price of a call that could be read only with repairs; 0 forgives them.

    Raises:
        InvalidArgument: A price is negative or no finite number: it would pay for bad form.
    """

    def __init__(self, penalty: float = 0.05, repair: float = 0.0) -> None:
        for name, price in (("penalty", penalty), ("repair", repair)):
            if not (math.isfinite(price) and price >= 0):
                raise InvalidArgument(f"{name} must be a finite number of at least 0, got {price!r}: this shaper charges and never pays")
        self.penalty, self.repair = penalty, repair

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        if last.result.error in _FAULTS:
            return {"format": -self.penalty}
        return {"format": -self.repair if self.repair and isinstance(last.action, ToolCall) and last.action.repaired else 0.0}


def final_and_format(penalty: float = 0.05, repair: float = 0.0) -> WeightedSum:
    """Return the verdict less ``penalty`` for every step in bad form, and ``repair`` for every call that had to be repaired."""
    return WeightedSum(Final(), Format(penalty, repair))
