"""``Family``: a kind of task. A new family is one file with one class, and a line in ``families/__init__.py``."""

from __future__ import annotations

import abc
from typing import ClassVar

from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.scene import Quest, Scene

__all__ = ["Family"]


class Family(abc.ABC):
    """Draws tasks of one kind, in any domain that fits."""

    name: ClassVar[str]
    least: ClassVar[int] = 1
    """Fewest calls before ``finish`` that such a task takes."""
    rich: ClassVar[bool] = True
    """Whether its worlds show details and have tools that list, link and transfer."""

    def fits(self, domain: Domain, dials: Dials) -> bool:
        """Return whether the domain has what such a task is about."""
        return True

    @abc.abstractmethod
    def draw(self, scene: Scene, depth: int) -> Quest:
        """Draw a task of about ``depth`` calls.

        Raises:
            Misfit: What was drawn makes no task; it will be drawn again.
        """
