"""The shaper of a run."""

from __future__ import annotations

import inspect

from steptool_env.rewards import RewardShaper, make_shaper, shaper_factory

from ..config import Config

__all__ = ["training_shaper"]


def training_shaper(config: Config) -> RewardShaper:
    """Return the shaper of the settings; one that takes ``gamma`` gets the learner's unless the settings name another."""
    options = dict(config.task.shaper_options)
    if "gamma" in inspect.signature(shaper_factory(config.task.shaper)).parameters:
        options.setdefault("gamma", config.learning.gamma)  # shaping with a discount other than the learner's may change the optimal policy
    return make_shaper(config.task.shaper, **options)
