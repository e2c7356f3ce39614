"""``ReasoningBudget``: an action whose reasoning has no end within its budget of tokens is given one, and goes on behind it.

The tokens that end the reasoning are written for the model. They are part of its context from then on, as if it had written them, but
nothing is learned from them: see ``Generation.forced``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from steptool_env.errors import InvalidArgument
from steptool_env.formats.reasoning import ending, still_open

from ..chat.reading import Reading

__all__ = ["ReasoningBudget"]


class ReasoningBudget:
    """Says which tokens end reasoning that has used up its budget.

    Args:
        most: Tokens that an action may have within its reasoning, at least 1.
        max_new_tokens: Longest action; the end of the reasoning and a call must fit in behind the budget.
        reading: Of the model's answers: it knows whether the prompt opens the reasoning.

    Raises:
        InvalidArgument: The budget leaves no room for a call.
    """

    def __init__(self, most: int, max_new_tokens: int, reading: Reading) -> None:
        if most >= max_new_tokens:
            raise InvalidArgument(f"max_reasoning_tokens must leave room for a call within max_new_tokens={max_new_tokens}, got {most}")
        self.most, self._reading = most, reading
        self._endings: dict[str, list[int]] = {}
        """Mark that begins reasoning -> the ids that end it."""

    @classmethod
    def of(cls, most: int | None, max_new_tokens: int, reading: Reading) -> Self | None:
        """Return a budget of so many tokens; None: there is no limit."""
        return None if most is None else cls(most, max_new_tokens, reading)

    def __call__(self, written: Sequence[int]) -> list[int]:
        """Return the ids to be written behind the first ``most`` tokens of an action: the end of its reasoning, or none if it is not within one."""
        if len(written) != self.most:
            return []
        mark = still_open(self._reading.text(written), self._reading.opening)
        if not mark:
            return []
        if mark not in self._endings:
            self._endings[mark] = list(self._reading.tokenizer.encode(ending(mark), add_special_tokens=False))
        return list(self._endings[mark])
