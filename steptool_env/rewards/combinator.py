"""What all combinators share: they hold other shapers and pass on whatever those need."""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from steptool_env.errors import InvalidArgument
from steptool_env.rewards.base import Past, RewardShaper, bind, knows_later, label
from steptool_env.types import Transition

__all__ = ["Combinator", "frozen", "has_statistics", "load_state", "set_training_progress", "state_of"]


class Combinator(abc.ABC):
    """A shaper made of other shapers. A subclass defines in ``combine`` what becomes of their parts.

    Args:
        children: The shapers.

    Raises:
        InvalidArgument: One of them is not callable.
    """

    def __init__(self, *children: RewardShaper) -> None:
        for child in children:
            if not callable(child):
                raise InvalidArgument(f"{type(self).__name__} combines shapers, got {child!r}; make one of a name with make_shaper(name)")
        self.children = children

    @abc.abstractmethod
    def combine(self, parts: Sequence[Mapping[str, float]], past: Sequence[Transition]) -> Mapping[str, float]:
        """Return the parts of the last step of ``past``, made from the parts of each child, in the order of ``children``."""

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        return self.combine([child(episode) for child in self.children], episode)

    @property
    def known_later(self) -> bool:
        """Whether some part is known only when the episode has ended."""
        return any(knows_later(child) for child in self.children)

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> list[list[Mapping[str, float] | None]]:
        """Combine the final parts of the children; where one of them has none, the reward is missing."""
        labeled = [label(child, episodes) for child in self.children]
        found: list[list[Mapping[str, float] | None]] = []
        for number, transitions in enumerate(episodes):
            past, combined = Past(), list[Mapping[str, float] | None]()
            for t, transition in enumerate(transitions):
                past.append(transition)
                present = [parts for labels in labeled if (parts := labels[number][t]) is not None]
                combined.append(self.combine(present, past) if len(present) == len(self.children) else None)
            found.append(combined)
        return found

    def bind(self, suite: Any, max_steps: int | None) -> Self:
        """Return a copy whose children know the suite; what outlives an episode is shared with this one."""
        twin = copy.copy(self)
        twin.children = tuple(bind(child, suite, max_steps) for child in self.children)
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Return what outlives an episode, as a dict that JSON can hold."""
        return {"children": [state_of(child) for child in self.children]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what ``state_dict`` returned; raises ``InvalidArgument`` if it belongs to other shapers."""
        children = state.get("children", [])
        if len(children) != len(self.children):
            raise InvalidArgument(f"this state is of a shaper with {len(children)} children, not of {type(self).__name__} with {len(self.children)}")
        for child, child_state in zip(self.children, children, strict=True):
            load_state(child, child_state)


def state_of(shaper: RewardShaper) -> dict[str, Any] | None:
    """Return the part of a shaper that belongs in a checkpoint; None if there is none."""
    wants = getattr(shaper, "state_dict", None)
    return None if wants is None else wants()


def load_state(shaper: RewardShaper, state: Mapping[str, Any] | None) -> None:
    """Load into a shaper what ``state_of`` returned; raises ``InvalidArgument`` if it belongs to another shaper."""
    if (state is None) != (not hasattr(shaper, "state_dict")):
        raise InvalidArgument(f"this state is not of the shaper {shaper!r}: {state!r}")
    if state is not None:
        shaper.load_state_dict(state)  # type: ignore[attr-defined]


def set_training_progress(shaper: RewardShaper, progress: float) -> None:
    """Tell every schedule within a shaper how much of the training is done.

    Args:
        shaper: Any shaper.
        progress: Share of the training that is done, in [0, 1].
    """
    for nested in _within(shaper):
        if hasattr(nested, "set_progress"):
            nested.set_progress(progress)


@contextmanager
def frozen(shaper: RewardShaper) -> Iterator[None]:
    """Keep every running statistic within a shaper as it is during an evaluation."""
    running = _statistics(shaper)
    before = [statistic.frozen for statistic in running]
    for statistic in running:
        statistic.frozen = True
    try:
        yield
    finally:
        for statistic, was_frozen in zip(running, before, strict=True):
            statistic.frozen = was_frozen


def has_statistics(shaper: RewardShaper) -> bool:
    """Return whether a shaper holds a running statistic of the episodes that it has paid."""
    return bool(_statistics(shaper))


def _statistics(shaper: RewardShaper) -> list[Any]:
    return [nested.running for nested in _within(shaper) if hasattr(nested, "running")]


def _within(shaper: Any) -> Iterator[Any]:
    yield shaper
    for child in getattr(shaper, "children", ()):
        yield from _within(child)
