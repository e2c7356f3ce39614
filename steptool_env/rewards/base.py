"""What a reward shaper is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from steptool_env.types import Transition

__all__ = ["RewardShaper"]


class RewardShaper(Protocol):
    """Any callable from the transitions of an episode so far to the named parts of the *last* one's reward.

    The reward is the sum of the parts; the same keys come at every step. All values are finite.
    """

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]: ...
