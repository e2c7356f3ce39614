"""``hindsight``: a call contributed if something that it returned was used later. Needs no gold, works on any suite."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from steptool_env.rewards.paper_rules import is_answer
from steptool_env.types import ToolCall, Transition, whose

__all__ = ["Hindsight", "used_later"]


class Hindsight:
    """r_t = α·SC_t + β·Con_t, plus the verdict; Con is known when the episode has ended.

    - SC_t: −1 if the call failed by the model's own fault, else 0.
    - Con_t: u_t / N, where u_t says whether its result was used (see ``used_later``) and N is the number of calls before
      the answer. The Con of an episode sum to its share of calls that were of use, at most 1: repeated and useless calls
      make it smaller, and longer episodes cannot make it larger.

    Args:
        alpha: Weight of SC.
        beta: Weight of Con.
        through: Count only what leads to the answer, see ``used_later``.
    """

    def __init__(self, alpha: float = 0.1, beta: float = 0.5, through: bool = False) -> None:
        self.alpha, self.beta, self.through = alpha, beta, through

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        solved = last.outcome.solved if last.outcome is not None else 0.0
        return {"sc": -self.alpha if whose(last.result.error) == "model" else 0.0, "con": 0.0, "solved": solved}

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[Mapping[str, float] | None]]:
        return [self._label(transitions) for transitions in episodes]

    def _label(self, transitions: Sequence[Transition]) -> list[Mapping[str, float] | None]:
        calls = sum(not is_answer(transition) for transition in transitions)
        used = used_later(transitions, through=self.through)
        return [{**self((transition,)), "con": self.beta * was_used / max(1, calls)} for transition, was_used in zip(transitions, used, strict=True)]


def used_later(transitions: Sequence[Transition], *, through: bool = False) -> list[bool]:
    """Return for each step of an episode whether the call returned something new that was used later.

    New is a value that stood neither in the instruction nor in what the agent itself had said before: a guess that a tool
    repeats is not a discovery. A call that was made before with the same result returns nothing new at all; two different
    calls that both return what is used later both count. Used is a value that appears in the answer, or in an argument
    of a later call.

    Values are the scalars of a JSON result, and words of four letters or with a digit of any other text; single characters,
    true, false and null do not count. Answers themselves are False: they are what the verdict is for.

    Args:
        transitions: The episode, from its first step to its last.
        through: What a later call used counts only if its own result was used, too, so that a chain of calls counts
            only if it ends in an answer. If False, any successful later call will do, and episodes without an answer
            get their due. (Against the exact contributions on ``worlds``, False is right more often:
            benchmarks/results/contribution.md.)

    What this does not see: a call whose effect matters, but whose result is never mentioned; use of a paraphrase.
    """
    if not transitions:
        return []
    known = set(_words(transitions[0].task.instruction))
    sources: dict[str, list[int]] = {}  # value -> the steps that returned it
    exchanges: set[tuple[str, str]] = set()
    used: list[set[str]] = []  # per step, the values in its arguments that some earlier step returned
    for t, transition in enumerate(transitions):
        arguments = transition.action.arguments if isinstance(transition.action, ToolCall) else {}
        leaves = [str(leaf).casefold() for leaf in _scalars(arguments)]
        mentioned = {*leaves, *(word for leaf in leaves for word in _words(leaf))}
        phrases = {value for value in sources if " " in value and any(value in leaf for leaf in leaves)}
        used.append({value for value in mentioned if value in sources} | phrases if not transition.result.error else set())
        known |= mentioned
        exchange = (repr(transition.action), transition.result.content)
        if not transition.result.error and not is_answer(transition) and exchange not in exchanges:
            exchanges.add(exchange)
            for value in set(_returned(transition.result.content)) - known:
                sources.setdefault(value, []).append(t)
    useful = [False] * len(transitions)
    for t in range(len(transitions) - 1, -1, -1):
        if useful[t] or is_answer(transitions[t]) or not through:
            for value in used[t]:
                for source in sources[value]:
                    useful[source] |= source < t
    return useful


_WORD = re.compile(r"\w(?:[\w.@:/+-]*\w)?")


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if len(word) > 1]


def _returned(content: str) -> Iterator[str]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        yield from (word for word in _words(content) if len(word) >= 4 or any(map(str.isdigit, word)))
        return
    yield from (text for leaf in _scalars(value) if len(text := str(leaf).casefold().strip()) > 1)


def _scalars(value: Any, depth: int = 0) -> Iterator[str | int | float]:
    if isinstance(value, Mapping | list) and depth < 50:
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _scalars(item, depth + 1)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield value
