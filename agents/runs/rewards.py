"""The rewards of a run: their shaper, and what is known only when episodes have ended; the same in all processes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from steptool_env.errors import NotSupported
from steptool_env.rewards import RewardShaper, make_shaper, shaper_factory
from steptool_env.rewards.base import knows_later
from steptool_env.rewards.combinator import has_statistics

from ..config import Config
from ..parallel import processes
from ..trajectory import Trajectory, in_hindsight

__all__ = ["labeled", "training_shaper"]


def training_shaper(config: Config) -> RewardShaper:
    """Return the shaper of the settings; one that takes ``gamma`` gets the learner's unless the settings name another.

    Raises:
        NotSupported: It keeps a statistic of all episodes, and there are several processes, each of which would know its own alone.
    """
    options = dict(config.task.shaper_options)
    if "gamma" in inspect.signature(shaper_factory(config.task.shaper)).parameters:
        options.setdefault("gamma", config.learning.gamma)  # shaping with a discount other than the learner's may change the optimal policy
    shaper = make_shaper(config.task.shaper, **options)
    if processes.world() > 1 and has_statistics(shaper) and not knows_later(shaper):
        raise NotSupported(
            f"the shaper {config.task.shaper!r} scales rewards by a statistic of all episodes, and each of the {processes.world()} processes would "
            "know its own alone: use one process, or a shaper without Normalize"
        )
    return shaper


def labeled(trajectories: Sequence[Trajectory], shaper: RewardShaper) -> list[Trajectory]:
    """Return the episodes of all processes with their final rewards.

    The main process asks for them and tells the others: a judge that each asked by itself might answer one and not another, and they would
    learn from different episodes.

    Args:
        trajectories: The same in every process.
        shaper: The run's.
    """
    return processes.once(lambda: in_hindsight(trajectories, shaper)) if knows_later(shaper) else list(trajectories)
