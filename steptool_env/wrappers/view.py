"""``View``: what ``StepToolDiscrete-v0`` numbers and shows. There are two, in ``rows.py`` and ``compact.py``."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from steptool_env.tasks import Episode
from steptool_env.types import ToolCall

__all__ = ["View"]


class View(abc.ABC):
    """Calls by number and a transcript in numbers, for one environment."""

    name: ClassVar[str]
    """The value of ``observation=``."""
    calls: list[tuple[ToolCall, Any] | None]
    """For each action, the call that it makes now and the value in its focus; None if it makes none."""
    size: int
    """Numbers in an observation."""

    @abc.abstractmethod
    def start(self) -> None:
        """Forget the episode before."""

    @abc.abstractmethod
    def note(self, made: tuple[ToolCall, Any] | None, error: str) -> None:
        """Take in the action that was just made, one of ``calls``, and the kind of its error."""

    @abc.abstractmethod
    def hear(self, text: str) -> None:
        """Take in a message of the user."""

    @abc.abstractmethod
    def see(self, text: str) -> None:
        """Take in a good result."""

    @abc.abstractmethod
    def look(self, episode: Episode, budget: int) -> NDArray[np.float32]:
        """Set ``calls`` and return the observation, shape ``(size,)``, in [-1, 1].

        Args:
            episode: The episode so far.
            budget: Its steps at most.
        """

    @abc.abstractmethod
    def why_not(self, action: int) -> str:
        """Return why this action is no call now, in words."""

    @property
    @abc.abstractmethod
    def state(self) -> Any:
        """What was taken in, for snapshots; can be set."""

    @state.setter
    @abc.abstractmethod
    def state(self, state: Any) -> None: ...
