"""Outcomes of episodes and steps in words, the same wherever episodes are shown."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from steptool_env.rendering import printable
from steptool_env.types import Outcome

__all__ = ["counted", "earned", "verdict"]


def earned(reward: float, parts: Mapping[str, float], total: float, progress: float) -> str:
    """Return in words what a step earned: its reward with the parts, the sum so far, and the progress after it."""
    named = ", ".join(f"{name} {value:+.3f}" for name, value in parts.items())
    return f"reward {reward:+.3f}{f' ({named})' if named else ''}; so far {total:+.3f}; progress {progress:.0%}"


def verdict(outcome: Outcome | None, calls: int, total: float | None) -> Text:
    """Return how an episode ended, in words; ``outcome`` is None if it has not ended, ``total`` if the reward is missing."""
    solved = outcome.solved if outcome is not None else 0.0
    sentence = "Solved" if solved >= 1.0 else f"Solved in part ({solved:.2f})" if solved > 0.0 else "Not solved"
    if outcome is not None and outcome.reason:
        sentence += f": {outcome.reason}"
    text = f"{sentence}. {counted(calls, 'call')}, {'reward missing' if total is None else f'{total:+.3f} in all'}."
    return Text(printable(text), style="bold green" if solved >= 1.0 else "bold red")


def counted(count: int, word: str) -> str:
    """Return ``"1 call"``, ``"2 calls"``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
