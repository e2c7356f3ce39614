"""Brute-force search for the shortest solution of a small task, which knows nothing of its plan.

It makes every call that an agent could make: tools on offer, with values that the instruction or an earlier result has named.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from steptool_env import Task, ToolCall, Toolkit
from steptool_env.tasks.worlds import Worlds
from steptool_env.tasks.worlds.world import World

__all__ = ["shortest"]

_ID = re.compile(r"[A-Z]{1,2}\d\d")


def calls(toolkit: Toolkit, world: World, known: frozenset[Any]) -> Iterator[ToolCall]:
    """Yield every call with known values; at most two of the arguments that may be left out are given, new names only once they were told."""
    for name, tool in toolkit.items():
        if name == "finish":
            continue
        required = tool.parameters.get("required", [])
        optional = [one for one in tool.parameters["properties"] if one not in required]
        for size in range(min(2, len(optional)) + 1):
            for chosen in itertools.combinations(optional, size):
                names = [*required, *chosen]
                for values in itertools.product(*(possible(one, tool.parameters["properties"][one], known) for one in names)):
                    told = world.plan.faults.get(name) == "renamed" and not world.costs[name]
                    yield ToolCall(name, {one.replace("_id", "_number") if told else one: value for one, value in zip(names, values, strict=True)})


def possible(name: str, schema: dict[str, Any], known: frozenset[Any]) -> list[Any]:
    if "enum" in schema:
        return list(schema["enum"])
    if name == "page":
        return [2, 3]
    if schema["type"] == "integer":
        return sorted(int(value) for value in known if str(value).isdigit() and int(value) >= 100)
    return sorted(value for value in known if isinstance(value, str) and _ID.fullmatch(value))


def shortest(suite: Worlds, task: Task, world: World, limit: int, before: frozenset[Any] = frozenset()) -> int | None:
    """Return the fewest calls to the goal, or None if it takes more than ``limit``.

    Args:
        suite: The task's suite.
        task: The task.
        world: Where to begin; left as it is.
        limit: How many calls are tried.
        before: Values that earlier results have named.
    """
    toolkit = suite.toolkit(task)
    frontier: list[tuple[World, frozenset[Any]]] = [(world, frozenset(_ID.findall(task.instruction)) | before)]
    seen: set[Any] = set()
    for count in range(limit + 1):
        if any(not one.distance + one.harm for one, _ in frontier):
            return count
        following = []
        for one, known in frontier if count < limit else ():
            for call in calls(toolkit, one, known):
                toolkit.state = copy.deepcopy(one)
                result = toolkit.execute(call)
                state: World = toolkit.state
                values = known if result.error else known | frozenset(scalars(json.loads(result.content))) if result.content[0] == "{" else known
                key = (values, frozenset(state.known), str(sorted(state.costs.items())), str(sorted(state.statuses.items())), str(state.moved), state.harm)
                if key not in seen and not state.harm:
                    seen.add(key)
                    following.append((state, values))
        frontier = following
    return None


def scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from scalars(item)
    elif value is not None and not isinstance(value, bool):
        yield value
