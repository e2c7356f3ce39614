"""The paper's reward (StepTool, arXiv 2410.07745, section 3.1), on the scale of the annotations that were released with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steptool_env.errors import InvalidArgument

__all__ = ["CONTRIBUTIONS", "STATUS", "Judgment", "aggregate"]

CONTRIBUTIONS = (0.0, 5.0)
"""Least and largest contribution that a judge gives to a call."""
STATUS = {"Solved": 1.0, "Unsure": 0.5, "Unsolved": 0.0}
"""Status of an answer -> IsSolved."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """What one judge said about an episode.

    Raises:
        InvalidArgument: The two lists differ in length, a value is out of range, or the status is none of ``STATUS``.
    """

    succeeded: tuple[float, ...]
    """(N,) for every call but the final answer: 1 if it succeeded, else 0."""
    contributions: tuple[float, ...]
    """(N,) what each of them contributed to the answer, 0 to 5."""
    status: str
    """One of ``STATUS``."""

    def __post_init__(self) -> None:
        if len(self.succeeded) != len(self.contributions):
            sizes = f"{len(self.succeeded)} successes and {len(self.contributions)} contributions"
            raise InvalidArgument(f"a judgment needs one contribution per call, got {sizes}")
        if any(value not in (0, 1) for value in self.succeeded):
            raise InvalidArgument(f"the success of a call must be 0 or 1, got {list(self.succeeded)}")
        low, high = CONTRIBUTIONS
        if not all(low <= value <= high for value in self.contributions):
            raise InvalidArgument(f"a contribution must lie between {low:g} and {high:g}, got {list(self.contributions)}")
        if self.status not in STATUS:
            raise InvalidArgument(f"the status of an answer must be one of {', '.join(STATUS)}, got {self.status!r}")


def aggregate(judgments: Sequence[Judgment]) -> tuple[list[tuple[float, float]], float]:
    """Average several judgments of one episode into rewards.

        r_t = ½·SC_t + ½·Con_t / 5   for each call before the final answer;   r_T = IsSolved

    both averaged over the judgments. The weights are not printed in the paper; they are those that its released example
    data follow: with three judgments, its rewards are multiples of 1/30 and its final ones multiples of 1/6.

    Args:
        judgments: At least one, all for the same number N of calls.

    Returns:
        N pairs ``(½·SC, ½·Con/5)``, which sum to r_t in [0, 1], and r_T in [0, 1].

    Raises:
        InvalidArgument: There is no judgment, or the judgments cover different numbers of calls.

    >>> aggregate([Judgment((1,), (5,), "Solved"), Judgment((0,), (2,), "Unsure")])
    ([(0.25, 0.35)], 0.75)
    """
    if not judgments:
        raise InvalidArgument("there is nothing to average: no judgment was given")
    if len({len(judgment.succeeded) for judgment in judgments}) > 1:
        raise InvalidArgument(f"judgments of one episode must have the same length, got {[len(judgment.succeeded) for judgment in judgments]}")
    n = len(judgments)
    calls = [
        (sum(judgment.succeeded[t] for judgment in judgments) / (2 * n), sum(judgment.contributions[t] for judgment in judgments) / (10 * n))
        for t in range(len(judgments[0].succeeded))
    ]
    return calls, sum(STATUS[judgment.status] for judgment in judgments) / n
