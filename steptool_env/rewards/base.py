"""What a reward shaper is, and the two times at which its parts can be known: at the step, or in hindsight.

A shaper is a callable over the episode so far. Three optional methods make it more:

    hindsight(episodes)      parts that only the finished episode shows; ``label`` (and ``relabel`` of the agents) asks for them
    bind(suite, max_steps)   returns a copy that knows the suite; the environment calls it once
    state_dict(), load_state_dict(state)   what outlives an episode and belongs in a checkpoint, as a dict that JSON can hold
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from steptool_env.errors import InvalidArgument
from steptool_env.types import Transition

__all__ = ["HindsightShaper", "Past", "RewardShaper", "Stateful", "bind", "checked", "knows_later", "label", "name_of"]

S = TypeVar("S")


class RewardShaper(Protocol):
    """Any callable that maps the transitions of an episode so far to the named parts of the *last* step's reward.

    The reward is the sum of the parts; the same keys are returned at every step. All values are finite.
    """

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]: ...


@runtime_checkable
class HindsightShaper(Protocol):
    """A shaper some of whose parts are known only when the episode has ended.

    Called at a step it pays what is known by then, with the same part names; ``hindsight`` gives the final parts.
    """

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]: ...

    def hindsight(self, episodes: Sequence[Sequence[Transition]], /) -> Sequence[Sequence[Mapping[str, float] | None]]:
        """Return the parts of every step of every finished episode; here ``Transition.tokens`` says how many tokens the policy wrote for a step.

        ``None`` marks a step whose reward is missing because some infrastructure failed: it is masked, never paid 0.
        Several episodes come at once, so that what waits for a server can wait for all of them together.
        """
        ...


class Past(list[Transition]):
    """The transitions so far, outside an environment. Like an ``Episode`` it has a ``memory`` for stateful shapers."""

    def __init__(self, transitions: Sequence[Transition] = ()) -> None:
        super().__init__(transitions)
        self.memory: dict[Any, Any] = {}


class Stateful(abc.ABC, Generic[S]):
    """A shaper whose parts depend on a state that each step carries on, such as the calls seen so far.

    The state is explicit: ``start`` makes it for an episode, ``advance`` carries it one step on. It is kept in the
    memory of the episode, so one shaper serves many episodes at once, a reset forgets it, a step costs the same however
    long the episode is, and after ``restore`` it is built again from the transitions.
    """

    @abc.abstractmethod
    def start(self) -> S:
        """Return the state before the first step."""

    @abc.abstractmethod
    def advance(self, state: S, last: Transition) -> tuple[S, Mapping[str, float]]:
        """Return the state after this step, and the parts of its reward; ``state`` may be changed in place."""

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        memory: dict[Any, Any] = getattr(episode, "memory", {})  # a plain list has none: its state is built each time
        count, state, parts = memory.get(self, (0, None, {}))
        if not count or count > len(episode):
            count, state = 0, self.start()
        for t in range(count, len(episode)):
            state, parts = self.advance(state, episode[t])
        memory[self] = (len(episode), state, parts)
        return parts  # type: ignore[no-any-return]


def bind(shaper: RewardShaper, suite: Any, max_steps: int | None = None) -> RewardShaper:
    """Return the shaper, or a copy that knows the suite and the step budget if it asks for them with a method ``bind``."""
    wants = getattr(shaper, "bind", None)
    return shaper if wants is None else wants(suite, max_steps)


def name_of(shaper: RewardShaper) -> str:
    """Return what a shaper is called, for messages: the name of the function or of the class."""
    return str(getattr(shaper, "__qualname__", type(shaper).__qualname__))


def knows_later(shaper: RewardShaper) -> bool:
    """Return whether finished episodes have to be relabeled with this shaper."""
    return bool(getattr(shaper, "known_later", hasattr(shaper, "hindsight")))


def label(shaper: RewardShaper, episodes: Sequence[Sequence[Transition]]) -> list[list[dict[str, float] | None]]:
    """Return the final reward parts of every step of finished episodes; ``None`` where the reward is missing.

    A shaper that knows all at the step is asked for each step in turn, just as the environment does.

    Args:
        shaper: Any shaper.
        episodes: The transitions of each episode, from its first step to its last.

    Raises:
        InvalidArgument: The shaper did not return mappings of names to finite numbers, or not one per step.
    """
    if not knows_later(shaper):
        return [_step_by_step(shaper, transitions) for transitions in episodes]
    returned = shaper.hindsight(episodes)  # type: ignore[attr-defined]
    expected, got = [len(transitions) for transitions in episodes], [len(steps) for steps in returned]
    if got != expected:
        raise InvalidArgument(f"hindsight of shaper {name_of(shaper)} must return the parts of {expected} steps, got those of {got}")
    return [[None if raw is None else checked(shaper, raw, t) for t, raw in enumerate(steps)] for steps in returned]


def _step_by_step(shaper: RewardShaper, transitions: Sequence[Transition]) -> list[dict[str, float] | None]:
    past, parts = Past(), list[dict[str, float] | None]()
    for t, transition in enumerate(transitions):
        past.append(transition)
        parts.append(checked(shaper, shaper(past), t))
    return parts


def checked(shaper: RewardShaper, returned: Any, step: int) -> dict[str, float]:
    """Return parts as a plain dict of floats; raises ``InvalidArgument`` if they are not finite numbers."""
    try:
        parts = {str(name): float(value) for name, value in returned.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as fault:
        raise InvalidArgument(f"shaper {name_of(shaper)} must return a mapping of part names to numbers, got {returned!r:.200} at step {step}") from fault
    for name, value in parts.items():
        if not math.isfinite(value):
            raise InvalidArgument(f"shaper {name_of(shaper)} returned {value} for part {name!r} at step {step}; every part must be finite")
    return parts
