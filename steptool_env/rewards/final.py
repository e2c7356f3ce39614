"""``final``: nothing but the verdict on the whole episode, at its last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.types import Transition

__all__ = ["Final"]


class Final:
    """IsSolved at the last step, 0 before: the baseline that step-grained shaping is compared with."""

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        outcome = episode[-1].outcome
        return {"solved": outcome.solved if outcome is not None else 0.0}
