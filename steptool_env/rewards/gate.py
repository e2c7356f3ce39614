"""``Gate``: pay a reward only where a condition holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from steptool_env.errors import InvalidArgument
from steptool_env.rewards.base import RewardShaper, label
from steptool_env.rewards.combinator import Combinator
from steptool_env.types import Transition

__all__ = ["Gate"]


class Gate(Combinator):
    """The parts of a shaper where ``when`` holds, zeros elsewhere.

    Args:
        shaper: What is paid.
        when: The condition, over the episode so far.
        whole: Ask the condition once, over the whole episode: "pay for steps only in episodes that were solved". Such a
            gate opens in hindsight; until then nothing is paid.

    Raises:
        InvalidArgument: The shaper or the condition is not callable.
    """

    def __init__(self, shaper: RewardShaper, when: Callable[[Sequence[Transition]], bool], *, whole: bool = False) -> None:
        super().__init__(shaper)
        if not callable(when):
            raise InvalidArgument(f"when must be a function of the episode, got {when!r}")
        self.when, self.whole = when, whole

    @property
    def known_later(self) -> bool:
        return self.whole or super().known_later

    def combine(self, parts: Sequence[Mapping[str, float]], past: Sequence[Transition]) -> Mapping[str, float]:
        return parts[0] if not self.whole and self.when(past) else dict.fromkeys(parts[0], 0.0)

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[Mapping[str, float] | None]]:
        if not self.whole:
            return super().hindsight(episodes)
        found: list[list[Mapping[str, float] | None]] = []
        for transitions, steps in zip(episodes, label(self.children[0], episodes), strict=True):
            gate = self.when(transitions)
            found.append([parts if parts is None or gate else dict.fromkeys(parts, 0.0) for parts in steps])
        return found
