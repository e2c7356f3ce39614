"""``Worlds``: the suite of generated tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.base import Episode, TaskSuite
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.generate import FAMILIES, Dials, generate
from steptool_env.tasks.worlds.tools import lookup_tool, tools_of
from steptool_env.tasks.worlds.world import World
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import Outcome, Task, ToolCall

__all__ = ["LEVELS", "Worlds"]

LEVELS: dict[int, Dials] = {
    1: Dials(depth=(1, 2), tools=4, entities=4),
    2: Dials(depth=(1, 4), tools=6, entities=6),
    3: Dials(depth=(2, 5), tools=8, entities=12),
    4: Dials(depth=(3, 6), tools=10, entities=24),
    5: Dials(depth=(4, 6), tools=12, entities=48),
}
"""Level -> how deep the tasks are, how many tools are on offer, how many entities of each type there are."""

_SPLITS = ("train", "test", "all")


class Worlds(TaskSuite):
    """Generated tasks: follow a chain of relations through a world that only the tools can see, then report or act.

    Every task has a world of its own, so no answer carries over from one to another. The splits differ in every world.

    Args:
        level: 1 to 5, see ``LEVELS``; every dial can be set on its own as well.
        split: ``"train"``, ``"test"`` or ``"all"`` (the one, then the other).
        size: Tasks per split.
        depth: ``(fewest, most)`` calls before ``finish``, within 1 to 6.
        tools: Tools on offer.
        entities: Entities of each type, 2 to 90.
        families: Task families, some of ``FAMILIES``.
        domains: Domains, some of ``DOMAINS``.
    """

    name: ClassVar[str] = "worlds"
    has_solution: ClassVar[bool] = True
    has_progress: ClassVar[bool] = True

    def __init__(
        self,
        level: int = 1,
        split: str = "train",
        size: int = 10_000,
        *,
        depth: Sequence[int] | None = None,
        tools: int | None = None,
        entities: int | None = None,
        families: Sequence[str] | None = None,
        domains: Sequence[str] | None = None,
    ) -> None:
        if level not in LEVELS:
            raise UnknownName("level", level, map(str, LEVELS))
        if split not in _SPLITS:
            raise UnknownName("split", split, _SPLITS)
        if size < 1:
            raise InvalidArgument(f"size must be at least 1, got {size!r}")
        self.level, self.split, self.size = level, split, size
        given: dict[str, Any] = {}
        if depth is not None:
            if len(depth) != 2 or not 1 <= depth[0] <= depth[1] <= 6:
                raise InvalidArgument(f"depth must be (fewest, most) within 1 to 6, got {depth!r}")
            given["depth"] = (int(depth[0]), int(depth[1]))
        if tools is not None:
            given["tools"] = _within("tools", tools, 1, 100)
        if entities is not None:
            given["entities"] = _within("entities", entities, 2, 90)
        if families is not None:
            given["families"] = _names("family", families, FAMILIES)
        if domains is not None:
            given["domains"] = _names("domain", domains, DOMAINS)
        self.dials = dataclasses.replace(LEVELS[level], **given)

    def __len__(self) -> int:
        return self.size * (2 if self.split == "all" else 1)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"task {index} of {len(self)}")
        split, number = (self.split, index) if self.split != "all" else (("train", "test")[index >= self.size], index % self.size)
        return generate(f"worlds-{self.level}-{split}-{number}", self.dials)

    def index(self, task_id: str) -> int:
        parts = task_id.split("-")
        if len(parts) == 4 and parts[:2] == ["worlds", str(self.level)] and parts[3].isdigit() and int(parts[3]) < self.size:
            if parts[2] == self.split:
                return int(parts[3])
            if self.split == "all" and parts[2] in _SPLITS[:2]:
                return int(parts[3]) + self.size * (parts[2] == "test")
        raise KeyError(task_id)

    def toolkit(self, task: Task) -> Toolkit:
        known = tools_of(task.data.domain)
        return Toolkit([known.get(name, FINISH) for name in task.tools], World(task.data))

    def grade(self, task: Task, episode: Episode) -> Outcome:
        last = episode[-1].action
        if not isinstance(last, ToolCall) or last.name != "finish" or episode[-1].result.error:
            return Outcome(0.0, "the episode ended without finish")
        world: World = episode.toolkit.state
        if world.harm:
            return Outcome(0.0, "something was changed that nobody asked for")
        if not world.done:
            return Outcome(0.0, "the change that was asked for was not made")
        if str(last.arguments["answer"]).strip().casefold() != task.data.answer.casefold():
            return Outcome(0.0, "the answer is wrong")
        return Outcome(1.0, "solved")

    def progress(self, task: Task, episode: Episode) -> float:
        world: World = episode.toolkit.state
        return world.progress

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        world: World = episode.toolkit.state
        if world.harm or (len(episode) and (episode[-1].terminated or episode[-1].truncated)):
            return []
        calls = [ToolCall(lookup_tool(kind), {f"{kind}_id": key}) for kind, key in task.data.lookups if key not in world.seen]
        if task.data.change is not None and task.data.change[1] not in world.changed:
            tool, key = task.data.change
            (argument,) = tools_of(task.data.domain)[tool].parameters["properties"]
            calls.append(ToolCall(tool, {argument: key}))
        return [*calls, ToolCall("finish", {"answer": task.data.answer})]


def _within(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InvalidArgument(f"{name} must lie within {low} to {high}, got {value!r}")
    return value


def _names(kind: str, given: Sequence[str], known: Sequence[str] | dict[str, Any]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in known:
            raise UnknownName(kind, name, known)
    if not names:
        raise InvalidArgument(f"at least one {kind} is needed; there are {', '.join(known)}")
    return names
