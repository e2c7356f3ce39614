"""Task suites: where tasks, their tools and their verdicts come from. One file (or folder) per suite."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from steptool_env import reference
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.base import Episode, TaskSuite

__all__ = ["SUITES", "Episode", "TaskSuite", "make_suite", "suite_factory"]

SUITES: dict[str, str | type[TaskSuite]] = {
    "worlds": "steptool_env.tasks.worlds:Worlds",
    "bfcl": "steptool_env.tasks.bfcl:make_bfcl",
    "tau2": "steptool_env.tasks.tau2:Tau2",
    "agentdojo": "steptool_env.tasks.agentdojo:AgentDojo",
    "toolbench": "steptool_env.tasks.toolbench:Toolbench",
    "jsonl": "steptool_env.tasks.jsonl:Jsonl",
}
"""Name -> class of the suite, or ``"module:Class"``, which is imported when the suite is made."""


def make_suite(suite: str | TaskSuite, **options: Any) -> TaskSuite:
    """Return the suite of this name with these options, or the suite itself.

    Args:
        suite: A name of ``SUITES``, or a reference to your own: ``"module:Class"``, ``"path/to/file.py:Class"``, or the file alone, if it
            defines one ``TaskSuite`` or a function ``make``.
        options: Its keywords. Training and evaluation give ``split="train"`` and ``split="test"``.

    Raises:
        UnknownName: There is no suite of this name; the message lists those that exist. Or it does not take one of the options.
        InvalidArgument: Options came with a suite that is made already, or your own cannot be imported.
    """
    if not isinstance(suite, str):
        if not isinstance(suite, TaskSuite):
            raise InvalidArgument(f"suite must be a name or a TaskSuite, got {suite!r}; names: {', '.join(sorted(SUITES))}")
        if options:
            raise InvalidArgument(f"the options {sorted(options)} go to a suite given by name; {suite.name!r} is made already")
        return suite
    factory = suite_factory(suite)
    if "split" in options and suite not in SUITES and not _takes_split(factory):
        raise InvalidArgument(
            f"suite {suite!r} must take split=: give it `split: str = \"train\"` as a keyword, with other tasks for \"train\" than for \"test\""
        )
    made = reference.call(factory, f"suite {suite!r}", options)
    if not isinstance(made, TaskSuite):
        raise InvalidArgument(f"suite {suite!r} must make a TaskSuite, got {made!r:.200}")
    return made


def suite_factory(name: str) -> Callable[..., TaskSuite]:
    """Return what makes the suite of this name; raises as ``make_suite`` does."""
    if name not in SUITES:
        if not reference.is_reference(name):
            raise UnknownName("suite", name, [*SUITES, *reference.FORMS])
        factory = reference.find(name, "suite", fits=lambda kind: issubclass(kind, TaskSuite))
    else:
        factory = SUITES[name]
        if isinstance(factory, str):
            module, _, attribute = factory.partition(":")
            factory = getattr(importlib.import_module(module), attribute)
    if not callable(factory):
        raise InvalidArgument(f"suite {name!r} must be a class or a function that makes a suite, got {factory!r:.200}")
    return factory  # type: ignore[no-any-return]


def _takes_split(factory: Callable[..., TaskSuite]) -> bool:
    parameters = inspect.signature(factory).parameters
    return "split" in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
