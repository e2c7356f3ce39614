"""``World``: the entities of one task and what the agent has learnt about and done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steptool_env.jsontext import dumps_ascii
from steptool_env.tasks.worlds.domain import Change
from steptool_env.types import ToolResult

__all__ = ["Plan", "World"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The private side of a task: its world before the agent acts, and what solves it. Immutable and picklable."""

    domain: str
    entities: Mapping[str, Mapping[str, Any]]
    """Id -> record, for every entity of the world."""
    lookups: tuple[tuple[str, str, str | None], ...]
    """``(entity type, id, field)`` of all that has to be read, in the order in which the ids become known; the field is
    None where a lookup returns the whole record."""
    change: tuple[str, str] | None
    """``(tool, id)`` of the change that has to be made, if there is one."""
    answer: str


class World:
    """The state behind an episode's tools. Copying is cheap: the records are shared, only what was done is copied."""

    __slots__ = ("changed", "harm", "learnt", "made", "plan", "seen", "units")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seen: set[tuple[str, str | None]] = set()
        """Id and field of all that was read; the field is None for whole records."""
        self.learnt = 0
        """How many of the needed lookups were made."""
        self.changed: dict[str, tuple[str, str]] = {}
        """Id -> (tool, confirmation) of the changes made."""
        self.harm = 0
        """How many changes were made that nobody asked for."""
        self.made = False
        """Whether the change that was asked for has been made."""
        self.units = len(plan.lookups) + (plan.change is not None)

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        return _rebuild(self.plan, set(self.seen), self.learnt, dict(self.changed), self.harm, self.made)

    def __reduce__(self) -> Any:
        return _rebuild, (self.plan, self.seen, self.learnt, self.changed, self.harm, self.made)

    def read(self, kind: str, prefix: str, key: str, field: str | None = None) -> str | ToolResult:
        """Return the record, or one field of it, as a JSON object, or an error result if there is no such entity."""
        record = self.plan.entities.get(key) if key.startswith(prefix) else None
        if record is None:
            return ToolResult(f"Error: there is no {kind} with the id {key!r}.", "tool_failed")
        if (key, field) not in self.seen:
            self.seen.add((key, field))
            self.learnt += any(one[1] == key and one[2] == field for one in self.plan.lookups)
        if field is not None:
            return dumps_ascii({field: record[field]})
        if key in self.changed:
            return dumps_ascii({**record, "status": self.changed[key][0]})
        return dumps_ascii(record)

    def change(self, tool: str, what: Change, prefix: str, key: str) -> str | ToolResult:
        """Do something to an entity, once, and return its new status and a confirmation code as JSON."""
        if not key.startswith(prefix) or key not in self.plan.entities:
            return ToolResult(f"Error: there is no {what.entity} with the id {key!r}.", "tool_failed")
        if key in self.changed:
            return ToolResult(f"Error: {what.entity} {key} is {what.status} already.", "tool_failed")
        if self.plan.change == (tool, key):
            self.made, confirmation = True, self.plan.answer
        else:
            self.harm += 1
            confirmation = str(1000 + (7919 * int(key[len(prefix) :]) + 104729 * self.harm) % 9000)
        self.changed[key] = (what.status, confirmation)
        return dumps_ascii({"status": what.status, "confirmation": confirmation})

    @property
    def done(self) -> bool:
        """Whether the change that was asked for, if any, has been made, and nothing else."""
        return self.harm == 0 and (self.made or self.plan.change is None)

    @property
    def progress(self) -> float:
        """Needed lookups and changes made over those required, less one unit for every harmful change; in [0, 1]."""
        return max(0, self.learnt + self.made - self.harm) / self.units


def _rebuild(plan: Plan, seen: set[tuple[str, str | None]], learnt: int, changed: dict[str, tuple[str, str]], harm: int, made: bool) -> World:
    world = World(plan)
    world.seen, world.learnt, world.changed, world.harm, world.made = seen, learnt, changed, harm, made
    return world
