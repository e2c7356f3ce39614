"""``naive-success``: what many would write first, and what any policy farms. The negative control of the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.types import Transition

__all__ = ["NaiveSuccess"]


class NaiveSuccess:
    """A bonus for every call that works, plus the verdict.

    It can be farmed: whoever calls some tool until the budget is used up is paid for every call. ``steptool audit
    --shaper naive-success`` shows how.

    Args:
        bonus: Paid for every call without an error.
    """

    def __init__(self, bonus: float = 0.1) -> None:
        self.bonus = bonus

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        return {"bonus": 0.0 if last.result.error else self.bonus, "solved": last.outcome.solved if last.outcome is not None else 0.0}
