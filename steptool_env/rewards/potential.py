"""``potential``: shaping that cannot change which policy is best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from steptool_env.errors import InvalidArgument
from steptool_env.types import Task, Transition

__all__ = ["Potential"]


class Potential:
    """γΦ(s′) − Φ(s) for every step, plus the verdict at the last one.

    Potential-based shaping (Ng, Harada and Russell 1999): along any episode the discounted shaping sums to −Φ(s_0),
    which no policy can influence, so all policies keep their order, if Φ is 0 at every terminal state. That is why the
    last step is paid −Φ(s), also after truncation: the step budget is part of the task, nothing comes after it.

    Args:
        phi: Φ of the state that ``task`` and the transitions so far (none at the start) lead to; progress by default. Your own
            potential gets a copy of the transitions, so each step costs time in proportion to their number.
        gamma: The discount of the learner, in (0, 1]; with a different one the order of policies may change.
        weight: Multiplies Φ.

    Raises:
        InvalidArgument: ``gamma`` lies outside (0, 1], or ``phi`` is not callable.
    """

    def __init__(self, phi: Callable[[Task, Sequence[Transition]], float] | None = None, gamma: float = 1.0, weight: float = 1.0) -> None:
        if phi is not None and not callable(phi):
            raise InvalidArgument(f"phi must be a function of the task and the transitions so far, or None for progress, got {phi!r}")
        if not 0 < gamma <= 1:
            raise InvalidArgument(f"gamma must lie in (0, 1], got {gamma!r}")
        self.phi, self.gamma, self.weight = phi, gamma, weight

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        ended = last.terminated or last.truncated
        if self.phi is None:
            before, after = last.progress_before, 0.0 if ended else last.progress
        else:
            past = list(episode)
            before, after = self.phi(last.task, past[:-1]), 0.0 if ended else self.phi(last.task, past)
        shaping = self.weight * (self.gamma * after - before)
        return {"shaping": shaping, "solved": last.outcome.solved if last.outcome is not None else 0.0}
