"""``paper-rules``: the paper's reward with its rule-based annotation, flaws included, for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.rewards.paper import CONTRIBUTIONS, Judgment, aggregate
from steptool_env.types import ToolCall, Transition

__all__ = ["PaperRules", "final_answer", "is_answer", "overlap"]


class PaperRules:
    """r_t = ½·SC_t + ½·Con_t/5 for every call, IsSolved for the final answer (StepTool, arXiv 2410.07745).

    - SC_t: 1 if the call has no error. (The released rules go on to look for words such as "wrong" in the result, but
      their first test lets every result without an error pass, so this is all that is left of them.)
    - Con_t: 5 if at least ``threshold`` of the result's characters appear, in order, in the final answer, else 0. Known in
      hindsight. It measures length rather than use: a long answer contains most short results as a subsequence.
    - IsSolved: the suite's verdict; the paper has no rule for it.

    It can be farmed: step rewards are never negative, so each further call that works pays ½, solved or not, and an answer
    that repeats everything pays the rest. ``steptool audit --shaper paper-rules`` shows how.

    Args:
        threshold: Share of a result that must reappear for it to count as used.
    """

    def __init__(self, threshold: float = 0.3) -> None:
        self.threshold = threshold

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        works = not is_answer(last) and not last.result.error
        return {"sc": 0.5 * works, "con": 0.0, "solved": last.outcome.solved if last.outcome is not None else 0.0}

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[Mapping[str, float] | None]]:
        return [self._label(transitions) for transitions in episodes]

    def contributions(self, transitions: Sequence[Transition]) -> list[float]:
        """Return Con, 0 or 5, of every step of an episode; 0 for answers."""
        answer = final_answer(transitions)
        used = [not is_answer(transition) and overlap(transition.result.content, answer) >= self.threshold for transition in transitions]
        return [CONTRIBUTIONS[1] if was_used else CONTRIBUTIONS[0] for was_used in used]

    def _label(self, transitions: Sequence[Transition]) -> list[Mapping[str, float] | None]:
        works = [0.0 if is_answer(transition) or transition.result.error else 1.0 for transition in transitions]
        calls, _ = aggregate([Judgment(tuple(works), tuple(self.contributions(transitions)), "Unsure")])
        solved = [transition.outcome.solved if transition.outcome is not None else 0.0 for transition in transitions]
        return [{"sc": sc, "con": con, "solved": verdict} for (sc, con), verdict in zip(calls, solved, strict=True)]


def is_answer(transition: Transition) -> bool:
    """Return whether the step is a ``finish``, which the paper rewards by the verdict only."""
    return isinstance(transition.action, ToolCall) and transition.action.name == "finish" and not transition.result.error


def final_answer(transitions: Sequence[Transition]) -> str:
    """Return the answer of the last ``finish``, or an empty string if the episode has none."""
    for transition in reversed(transitions):
        if is_answer(transition) and isinstance(transition.action, ToolCall):
            return str(transition.action.arguments.get("answer", ""))
    return ""


def overlap(observation: str, answer: str) -> float:
    """Return the length of the longest common subsequence of two texts over the length of the first; 0 if that is empty.

    Bit-parallel (Hyyrö 2004): one big-integer step per character of the answer instead of a table.

    >>> overlap("abcd", "xaybz")
    0.5
    """
    if not observation:
        return 0.0
    where: dict[str, int] = {}
    for position, character in enumerate(observation):
        where[character] = where.get(character, 0) | 1 << position
    full = (1 << len(observation)) - 1
    free = full  # the zeros of this word count the subsequence
    for character in answer:
        match = free & where.get(character, 0)
        free = ((free + match) | (free - match)) & full
    return (len(observation) - free.bit_count()) / len(observation)
