"""Outcomes of episodes and steps in words, the same wherever episodes are shown."""

from __future__ import annotations

from collections.abc import Mapping

from steptool_env.rendering import printable
from steptool_env.types import Action, Malformed, Outcome, whose

__all__ = ["action_text", "counted", "earned", "ended", "kind_of_error", "verdict"]


def earned(reward: float, parts: Mapping[str, float], total: float, progress: float) -> str:
    """Return in words what a step earned: its reward with the parts, the sum so far, and the progress after it."""
    named = ", ".join(f"{name} {value:+.3f}" for name, value in parts.items())
    return f"reward {reward:+.3f}{f' ({named})' if named else ''}; so far {total:+.3f}; progress {progress:.0%}"


def verdict(outcome: Outcome | None, calls: int, total: float | None) -> str:
    """Return how an episode ended and what it earned, in words; ``outcome`` is None if it has not ended, ``total`` if the reward is missing."""
    return printable(f"{ended(outcome)}. {counted(calls, 'call')}, {'reward missing' if total is None else f'{total:+.3f} in all'}.")


def ended(outcome: Outcome | None) -> str:
    """Return how an episode ended, in words, without a full stop; ``outcome`` is None if it has not ended."""
    solved = outcome.solved if outcome is not None else 0.0
    sentence = "Solved" if solved >= 1.0 else f"Solved in part ({solved:.2f})" if solved > 0.0 else "Not solved"
    if outcome is not None and outcome.reason:
        sentence += f": {outcome.reason}"
    return printable(sentence)


def counted(count: int, word: str) -> str:
    """Return ``"1 call"``, ``"2 calls"``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def kind_of_error(error: str) -> str:
    """Return a kind of error in words: with whose fault it was, where that is not the model's."""
    return error if whose(error) == "model" else f"{error} ({whose(error)})"


def action_text(action: Action) -> str:
    """Return a call as JSON; of what is no call, its text."""
    return action.text if isinstance(action, Malformed) else action.as_json()
