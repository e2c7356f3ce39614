"""Reward shapers: one file per idea. A shaper is any callable that maps the episode so far to the parts of its last step's reward."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeGuard

from steptool_env import reference
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.rewards.base import HindsightShaper, Past, RewardShaper, Stateful, bind, knows_later, label, name_of
from steptool_env.rewards.budget import Budget, final_and_budget
from steptool_env.rewards.clip import Clip
from steptool_env.rewards.combinator import Combinator, frozen, load_state, set_training_progress, state_of
from steptool_env.rewards.final import Final
from steptool_env.rewards.format import Format, final_and_format
from steptool_env.rewards.gate import Gate
from steptool_env.rewards.hindsight import Hindsight, used_later
from steptool_env.rewards.naive import NaiveSuccess
from steptool_env.rewards.normalize import Normalize
from steptool_env.rewards.paper import Judgment, aggregate
from steptool_env.rewards.paper_rules import PaperRules
from steptool_env.rewards.potential import Potential
from steptool_env.rewards.repetition import Repetition, final_and_repetition
from steptool_env.rewards.schedule import Schedule
from steptool_env.rewards.step_cost import StepCost, final_and_step_cost
from steptool_env.rewards.steptool import StepTool
from steptool_env.rewards.weighted_sum import WeightedSum

__all__ = [
    "SHAPERS",
    "Budget",
    "Clip",
    "Combinator",
    "Final",
    "Format",
    "Gate",
    "Hindsight",
    "HindsightShaper",
    "Judgment",
    "NaiveSuccess",
    "Normalize",
    "PaperRules",
    "Past",
    "Potential",
    "Repetition",
    "RewardShaper",
    "Schedule",
    "Stateful",
    "StepCost",
    "StepTool",
    "WeightedSum",
    "aggregate",
    "bind",
    "frozen",
    "knows_later",
    "label",
    "load_state",
    "make_shaper",
    "name_of",
    "set_training_progress",
    "shaper_factory",
    "state_of",
    "used_later",
]

SHAPERS: dict[str, str | Callable[..., RewardShaper]] = {
    "final": Final,
    "steptool": StepTool,
    "potential": Potential,
    "hindsight": Hindsight,
    "monte-carlo": "steptool_env.monte_carlo:MonteCarlo",
    "paper-rules": PaperRules,
    "paper-judge": "steptool_agents.servers.judge:PaperJudge",
    "step-cost": final_and_step_cost,
    "format": final_and_format,
    "repetition": final_and_repetition,
    "budget": final_and_budget,
    "naive-success": NaiveSuccess,
}
"""Name -> factory of a shaper, or ``"module:factory"``, which is imported when the shaper is made."""


def make_shaper(shaper: str | RewardShaper, **options: Any) -> RewardShaper:
    """Return the shaper of this name with these options, or the callable itself.

    Args:
        shaper: A name of ``SHAPERS``, or a reference to your own or to what makes it: ``"module:object"``, ``"path/to/file.py:object"``, or the
            file alone, if it defines a function ``make`` or one class whose objects can be called. A function that must be given one thing
            is the shaper itself, and that thing the episode.
        options: Its keywords.

    Raises:
        UnknownName: There is no shaper of this name, or it takes no such option; the message lists what exists.
        InvalidArgument: Options came with a callable, what was given is not a shaper, or your own cannot be imported.
    """
    if isinstance(shaper, str):
        factory = shaper_factory(shaper)
        if not options and shaper not in SHAPERS and _is_a_shaper(factory):
            return factory
        made: RewardShaper = reference.call(factory, f"shaper {shaper!r}", options)
        if not callable(made):
            raise InvalidArgument(f"shaper {shaper!r} must make a callable, got {made!r:.200}")
        return made
    if not callable(shaper):
        raise InvalidArgument(f"shaper must be a name or a callable, got {shaper!r}; names: {', '.join(sorted(SHAPERS))}")
    if options:
        raise InvalidArgument(f"the options {sorted(options)} go to a shaper given by name; {shaper!r} is made already")
    return shaper


def _is_a_shaper(found: Any) -> TypeGuard[RewardShaper]:
    """Return whether this is a function that must be given one thing, by its place: an episode. What makes shapers can be called without."""
    return inspect.isfunction(found) and _takes(found, ()) and not _takes(found)


def _takes(function: Callable[..., Any], *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def shaper_factory(name: str) -> Callable[..., RewardShaper]:
    """Return what makes the shaper of this name; raises as ``make_shaper`` does."""
    if name not in SHAPERS:
        if not reference.is_reference(name):
            raise UnknownName("shaper", name, [*SHAPERS, *reference.FORMS])
        factory = reference.find(name, "shaper", fits=lambda kind: "__call__" in dir(kind) and not issubclass(kind, type))
    else:
        factory = SHAPERS[name]
        if isinstance(factory, str):
            module, _, attribute = factory.partition(":")
            factory = getattr(importlib.import_module(module), attribute)
    if not callable(factory):
        raise InvalidArgument(f"shaper {name!r} must be a class or a function, got {factory!r:.200}")
    return factory  # type: ignore[no-any-return]
