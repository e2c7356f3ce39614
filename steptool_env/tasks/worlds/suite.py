"""``Worlds``: the suite of generated tasks."""

from __future__ import annotations

import copy
import dataclasses
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, Self, overload

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.base import Episode, TaskSuite
from steptool_env.tasks.worlds.about import in_words
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.families import FAMILIES
from steptool_env.tasks.worlds.generate import generate
from steptool_env.tasks.worlds.levels import LEVELS, REPLIES, WORDINGS
from steptool_env.tasks.worlds.splits import DEEPEST, SPLITS, parts_of, split_dials
from steptool_env.tasks.worlds.tools import rename, tool_in, tools_of
from steptool_env.tasks.worlds.world import World
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import Outcome, Task, ToolCall

__all__ = ["Worlds"]


class Worlds(TaskSuite):
    """Generated tasks: find out and change things in a world that only the tools can see, then report.

    Every task has a world of its own, so no answer carries over from one to another. The splits differ in every world.
    A slice of a suite is a suite with the tasks of the slice.

    Args:
        level: 1 to 5, see ``LEVELS``; every dial can be set on its own as well.
        split: One of ``SPLITS``: ``"train"``, ``"test"``, ``"all"``, ``"paraphrases"``, ``"compositions"``, ``"domains"``.
        size: Tasks per split.
        depth: ``(fewest, most)`` calls before ``finish``, within 1 to 6; families that take more than the fewest take more.
        branching: Most things that a task asks about at once, 2 to 6.
        tools: Tools on offer beside ``finish``: more where the task needs more, at most those of its domain.
        lookalikes: How many reading tools have a double that reads an outdated archive, 0 to 6.
        entities: Entities of each type, 2 to 90.
        page: Entries on a page of a list, 1 to 90.
        faults: How many tools are faulty, 0 to 4.
        replies: What a lookup returns, one of ``REPLIES``: ``"record"``, all of an entity's fields, or ``"field"``, the one
            that the call names.
        wording: Which paraphrases, one of ``WORDINGS``: ``"seen"``, ``"unseen"`` or ``"all"``.
        families: Task families, some of ``FAMILIES``. A domain that has nothing for a family leaves it out.
        domains: Domains, some of ``DOMAINS``.

    Raises:
        UnknownName: There is no such split, form of replies, wording, family or domain.
        InvalidArgument: Another option is of the wrong kind or out of range.
    """

    name: str = "worlds"
    has_solution: bool = True
    has_progress: bool = True

    def __init__(
        self,
        level: int = 1,
        split: str = "train",
        size: int = 10_000,
        *,
        depth: Sequence[int] | None = None,
        branching: int | None = None,
        tools: int | None = None,
        lookalikes: int | None = None,
        entities: int | None = None,
        page: int | None = None,
        faults: int | None = None,
        replies: str | None = None,
        wording: str | None = None,
        families: Sequence[str] | None = None,
        domains: Sequence[str] | None = None,
    ) -> None:
        if (level := _integer("level", level)) not in LEVELS:
            raise InvalidArgument(f"level must be one of {', '.join(map(str, LEVELS))}, got {level!r}")
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        self.level, self.split, self.size = level, split, _integer("size", size, 1)
        given: dict[str, Any] = {}
        if depth is not None:
            given["depth"] = _depth(depth)
        for name, number, low, high in (
            ("branching", branching, 2, 6),
            ("tools", tools, 1, None),
            ("lookalikes", lookalikes, 0, 6),
            ("entities", entities, 2, 90),
            ("page", page, 1, 90),
            ("faults", faults, 0, 4),
        ):
            if number is not None:
                given[name] = _integer(name, number, low, high)
        for name, kind, word, known in (("replies", "form of replies", replies, REPLIES), ("wording", "wording", wording, WORDINGS)):
            if word is not None:
                if word not in known:
                    raise UnknownName(kind, word, known)
                given[name] = word
        if families is not None:
            given["families"] = _names("families", "family", families, FAMILIES)
        if domains is not None:
            given["domains"] = _names("domains", "domain", domains, DOMAINS)
        dials = dataclasses.replace(LEVELS[level], **given)
        self.dials = split_dials(split, dials)
        # What a task needs may be more than the dial says, and every link brings the tool that takes it back.
        most = max(dials.tools, dials.depth[1] + 3 + dials.lookalikes) + max(len(domain.links) for domain in DOMAINS.values())
        self.most_tools = most + bool(dials.faults)
        least = min((FAMILIES[name].least, name) for name in self.dials.families)
        if least[0] > self.dials.depth[1]:
            raise InvalidArgument(f"{least[1]} takes at least {least[0]} calls: the depth must reach {least[0]}, got {self.dials.depth}")
        self._numbers = range(self.size * len(parts_of(split)))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Task | Self:
        if isinstance(index, slice):
            part = copy.copy(self)
            part._numbers = self._numbers[index]
            return part
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"task {index} of {len(self)}")
        split, number = divmod(self._numbers[index], self.size)
        return generate(f"worlds-{self.level}-{parts_of(self.split)[split]}-{number}", self.dials)

    def about(self) -> str:
        return in_words(self.level, self.dials)

    def index(self, task_id: str) -> int:
        for part, split in enumerate(parts_of(self.split)):
            number = task_id.removeprefix(f"worlds-{self.level}-{split}-")
            if number != task_id and re.fullmatch("0|[1-9][0-9]{0,18}", number) and int(number) < self.size:
                place = int(number) + part * self.size
                if place in self._numbers:
                    return self._numbers.index(place)
        raise KeyError(task_id)

    def toolkit(self, task: Task) -> Toolkit:
        plan = task.data
        domain, replies = DOMAINS[plan.domain], self.dials.replies
        tools = [
            FINISH if name == "finish" else tool_in(domain, replies, plan.rich, name, plan.faults.get(name) == "renamed") for name in task.tools
        ]
        return Toolkit(tools, World(plan))

    def grade(self, task: Task, episode: Episode) -> Outcome:
        last = episode[-1].action
        if not isinstance(last, ToolCall) or last.name != "finish" or episode[-1].result.error:
            return Outcome(0.0, "the episode ended without finish")
        world: World = episode.toolkit.state
        if world.harm or world.astray:
            return Outcome(0.0, "something was changed that nobody asked for")
        if not world.done:
            return Outcome(0.0, "the change that was asked for was not made")
        gave_up = bool(last.arguments.get("give_up"))
        if gave_up != task.data.answer.give_up:
            return Outcome(0.0, "the task was declined, but it can be solved" if gave_up else "the task cannot be solved, but it was not declined")
        if not task.data.answer.accepts(str(last.arguments["answer"])):
            return Outcome(0.0, "the answer is wrong")
        return Outcome(1.0, "solved")

    def progress(self, task: Task, episode: Episode) -> float:
        world: World = episode.toolkit.state
        return world.progress

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return the shortest calls from here; what a fault costs is among them, a call in vain at first, perhaps a ``wait``."""
        world: World = episode.toolkit.state
        plan = task.data
        if world.harm or (len(episode) and (episode[-1].terminated or episode[-1].truncated)):
            return []
        calls: list[ToolCall] = []
        for tool, key in world.astray:
            (argument,) = tools_of(plan.domain, rich=True)[f"undo_{tool}"].parameters["properties"]
            calls.append(ToolCall(f"undo_{tool}", {argument: key}))
        met = set[str]()
        for step in plan.ways[world.best()]:
            if all(fact in world.known for fact in step.facts):
                continue
            call, cost = step.call, world.costs.get(step.call.name, 0)
            if cost and call.name not in met:
                met.add(call.name)
                limited = plan.faults[call.name] == "limited"
                calls += [call] * (cost > limited) + [ToolCall("wait", {})] * limited
            calls.append(rename(call) if plan.faults.get(call.name) == "renamed" else call)
        end = {"answer": plan.answer.text} | ({"give_up": True} if plan.answer.give_up else {})
        return [*calls, ToolCall("finish", end)]


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
        low, high = (_integer("depth", number, 1, DEEPEST) for number in value)
        if low <= high:
            return low, high
    except (TypeError, ValueError):  # InvalidArgument is a ValueError: the message below says more
        pass
    raise InvalidArgument(f"depth must be two integers (fewest, most) within 1 to {DEEPEST}, such as (2, 4), got {value!r}")


def _names(option: str, kind: str, given: Any, known: Iterable[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if not names:
        raise InvalidArgument(f"{option} must be one or more of {', '.join(known)}, got {given!r}")
    for name in names:
        if name not in tuple(known):
            raise UnknownName(kind, name, known)
    return names
