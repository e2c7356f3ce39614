"""``Worlds``: the suite of generated tasks."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.base import Episode, TaskSuite
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.generate import FAMILIES, REPLIES, Dials, generate
from steptool_env.tasks.worlds.tools import lookup, tools_of
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
        depth: ``(fewest, most)`` calls before ``finish``, within 1 to 6. A change takes at least 2.
        tools: Tools on offer beside ``finish``: more where the task needs more, at most those of its domain.
        entities: Entities of each type, 2 to 90.
        replies: What a lookup returns, one of ``REPLIES``: ``"record"``, all of an entity's fields, or ``"field"``, the one
            that the call names.
        families: Task families, some of ``FAMILIES``.
        domains: Domains, some of ``DOMAINS``.

    Raises:
        UnknownName: There is no such split, form of replies, family or domain.
        InvalidArgument: Another option is of the wrong kind or out of range.
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
        replies: str | None = None,
        families: Sequence[str] | None = None,
        domains: Sequence[str] | None = None,
    ) -> None:
        if (level := _integer("level", level)) not in LEVELS:
            raise InvalidArgument(f"level must be one of {', '.join(map(str, LEVELS))}, got {level!r}")
        if split not in _SPLITS:
            raise UnknownName("split", split, _SPLITS)
        self.level, self.split, self.size = level, split, _integer("size", size, 1)
        given: dict[str, Any] = {}
        if depth is not None:
            given["depth"] = _depth(depth)
        if tools is not None:
            given["tools"] = _integer("tools", tools, 1)
        if entities is not None:
            given["entities"] = _integer("entities", entities, 2, 90)
        if replies is not None:
            if replies not in REPLIES:
                raise UnknownName("form of replies", replies, REPLIES)
            given["replies"] = replies
        if families is not None:
            given["families"] = _names("families", "family", families, FAMILIES)
        if domains is not None:
            given["domains"] = _names("domains", "domain", domains, DOMAINS)
        self.dials = dataclasses.replace(LEVELS[level], **given)
        if self.dials.families == ("change",) and self.dials.depth[1] < 2:
            raise InvalidArgument(f"a change takes at least 2 calls: with families=('change',) the depth must reach 2, got {self.dials.depth}")

    def __len__(self) -> int:
        return self.size * (2 if self.split == "all" else 1)

    def __getitem__(self, index: int) -> Task:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"task {index} of {len(self)}")
        part, number = divmod(index, self.size)
        return generate(f"worlds-{self.level}-{self._parts[part]}-{number}", self.dials)

    def index(self, task_id: str) -> int:
        for part, split in enumerate(self._parts):
            number = task_id.removeprefix(f"worlds-{self.level}-{split}-")
            if number != task_id and re.fullmatch("0|[1-9][0-9]{0,18}", number) and int(number) < self.size:
                return int(number) + part * self.size
        raise KeyError(task_id)

    @property
    def _parts(self) -> tuple[str, ...]:
        return _SPLITS[:2] if self.split == "all" else (self.split,)

    def toolkit(self, task: Task) -> Toolkit:
        known = tools_of(task.data.domain, self.dials.replies)
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
        calls = [lookup(kind, key, field) for kind, key, field in task.data.lookups if (key, field) not in world.seen]
        if task.data.change is not None and task.data.change[1] not in world.changed:
            tool, key = task.data.change
            (argument,) = tools_of(task.data.domain)[tool].parameters["properties"]
            calls.append(ToolCall(tool, {argument: key}))
        return [*calls, ToolCall("finish", {"answer": task.data.answer})]


def _integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Return an integer within the bounds, both included; NumPy's integers are fine, True and 2.0 are not."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (low is not None and number < low) or (high is not None and number > high):
        bounds = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high}"
        raise InvalidArgument(f"{name} must be an integer{bounds}, got {value!r}")
    return number


def _depth(value: Any) -> tuple[int, int]:
    try:
        low, high = (_integer("depth", one, 1, 6) for one in value)
        if low <= high:
            return low, high
    except (TypeError, ValueError):  # InvalidArgument is a ValueError: the message below says more
        pass
    raise InvalidArgument(f"depth must be two integers (fewest, most) within 1 to 6, such as (2, 4), got {value!r}")


def _names(option: str, kind: str, given: Any, known: Iterable[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if not names:
        raise InvalidArgument(f"{option} must be one or more of {', '.join(known)}, got {given!r}")
    for name in names:
        if name not in tuple(known):
            raise UnknownName(kind, name, known)
    return names
