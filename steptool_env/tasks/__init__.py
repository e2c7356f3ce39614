"""Task suites: where tasks, their tools and their verdicts come from. One file (or folder) per suite."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.base import Episode, TaskSuite

__all__ = ["SUITES", "Episode", "TaskSuite", "make_suite"]

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

    Raises:
        UnknownName: There is no suite of this name; the message lists those that exist.
        InvalidArgument: The suite does not take one of the options, or options came with a suite that is made already.
    """
    if not isinstance(suite, str):
        if not isinstance(suite, TaskSuite):
            raise InvalidArgument(f"suite must be a name or a TaskSuite, got {suite!r}; names: {', '.join(sorted(SUITES))}")
        if options:
            raise InvalidArgument(f"the options {sorted(options)} go to a suite given by name; {suite.name!r} is made already")
        return suite
    if suite not in SUITES:
        raise UnknownName("suite", suite, SUITES)
    entry = SUITES[suite]
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        entry = getattr(importlib.import_module(module), name)
    assert not isinstance(entry, str)
    takes = inspect.signature(entry).parameters
    for option in options:
        if option not in takes:
            raise UnknownName(f"option of suite {suite!r}", option, takes)
    return entry(**options)
