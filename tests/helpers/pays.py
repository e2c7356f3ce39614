"""A reward that pays for every call, so that there is something to imitate in whatever a model plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.rewards import Normalize
from steptool_env.types import Transition

PAYS = f"{__file__}:pays"
"""It as the setting ``shaper``."""
NORMALIZED = f"{__file__}:normalized"
"""The same by a running statistic of all episodes."""


def pays(episode: Sequence[Transition], /) -> Mapping[str, float]:
    """Return 1 for the last step, whatever it was."""
    return {"paid": 1.0}


def normalized() -> Normalize:
    """Return ``pays``, scaled by what it has paid so far."""
    return Normalize(pays)


class Judge:
    """Pays in hindsight, and counts how often it is asked.

    Args:
        pay: For each step.
    """

    def __init__(self, pay: float) -> None:
        self.pay, self.asked = pay, 0

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        return {"judged": 0.0}

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[Mapping[str, float] | None]]:
        self.asked += 1
        return [[{"judged": self.pay}] * len(one) for one in episodes]
