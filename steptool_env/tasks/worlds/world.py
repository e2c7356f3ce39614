"""``World``: the state behind an episode's tools. What the agent has learned and changed, and how far it is from the goal.

Every call updates the distance in constant time: it looks at the steps that its own facts belong to, and at nothing before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from steptool_env.jsontext import dumps_ascii
from steptool_env.tasks.worlds.domain import Change, Entity, Link, Transfer
from steptool_env.tasks.worlds.faults import COST
from steptool_env.tasks.worlds.plan import Fact, Plan, page_fact
from steptool_env.tasks.worlds.values import hashed, table
from steptool_env.types import ToolResult

__all__ = ["World"]

Reply: TypeAlias = str | ToolResult


class World:
    """Copying is cheap: the plan is shared, only what was learned and done is copied."""

    __slots__ = ("costs", "distance", "harm", "known", "left", "moved", "open", "plan", "shifts", "start", "statuses")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.known: set[Fact] = set()
        """The facts that some step wants and that hold."""
        self.left = [len(way) for way in plan.ways]
        """Steps that each way still lacks."""
        self.costs = {tool: COST[fault] for tool, fault in plan.faults.items()}
        """Tool -> calls that its fault still costs."""
        self.open: list[dict[str, int]] = [_uses(way, self.costs) for way in plan.ways]
        """How many of a way's missing steps use each faulty tool."""
        self.statuses: dict[str, str] = dict(plan.statuses)
        self.moved: dict[tuple[str, str], tuple[str, str]] = {}
        """(id, relation) -> (tool, new target) of relations that are changed."""
        self.shifts: dict[tuple[str, str], int] = {}
        """(id, attribute) -> what transfers added."""
        self.harm = 0
        """How many changes were made that nobody asked for and that nothing undoes."""
        self._measure()
        self.start = self.distance
        """Calls that the whole task takes, ``finish`` not counted."""

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        return _rebuild(*self._parts(copied=True))

    def __reduce__(self) -> Any:
        return _rebuild, self._parts(copied=False)

    def _parts(self, copied: bool) -> tuple[Any, ...]:
        parts = (self.known, self.left, self.costs, self.open, self.statuses, self.moved, self.shifts)
        if copied:
            parts = (*(part.copy() for part in parts[:3]), [counts.copy() for counts in self.open], *(part.copy() for part in parts[4:]))  # type: ignore[assignment]
        return (self.plan, *parts, self.harm, self.distance, self.start)

    # ---------------------------------------------------------------- how far it is
    @property
    def done(self) -> bool:
        """Whether all changes that were asked for have been made, and nothing else."""
        return self.harm == 0 and not self.astray and self.known.issuperset(self.plan.goals)

    @property
    def astray(self) -> list[tuple[str, str]]:
        """(tool, id) of relations that were changed though nobody asked for it, and that can be changed back."""
        if not self.moved:
            return []
        return [(tool, key) for (key, _), (tool, target) in self.moved.items() if ("done", tool, key, target) not in self.plan.goals]

    @property
    def progress(self) -> float:
        """1 less the share of calls that the shortest way still takes; irreparable harm counts as one call each. In [0, 1]."""
        gained = self.start - self.distance - self.harm
        return gained / self.start if gained > 0 else 0.0

    def best(self) -> int:
        """Return the number of the shortest way from here."""
        return min(range(len(self.left)), key=self._lacks)

    def _lacks(self, way: int) -> int:
        wanted = self.open[way]
        return self.left[way] + sum(cost for tool, cost in self.costs.items() if cost and wanted[tool])

    def _measure(self) -> None:
        shortest = min(self.left) if not self.costs else min(map(self._lacks, range(len(self.left))))
        self.distance = shortest + (len(self.astray) if self.moved else 0)

    def _learn(self, fact: Fact) -> None:
        if fact in self.known or fact not in self.plan.needs:
            return
        self.known.add(fact)
        self._count(fact, -1)

    def _unlearn(self, fact: Fact) -> None:
        if fact in self.known:
            self._count(fact, 1)
            self.known.discard(fact)

    def _count(self, fact: Fact, change: int) -> None:
        """Count the steps that are done because this fact holds; it must be among the known ones."""
        for way, place in self.plan.needs[fact]:
            step = self.plan.ways[way][place]
            if len(step.facts) == 1 or all(needed in self.known for needed in step.facts):
                self.left[way] += change
                if step.call.name in self.costs:
                    self.open[way][step.call.name] += change

    # ---------------------------------------------------------------- what holds now
    def value(self, entity: Entity, key: str, field: str) -> Any:
        """Return what a field of an entity holds now."""
        if field == "status":
            return self.statuses.get(key, "active")
        if field in entity.details:
            found = self.plan.details.get((key, field))
            return found if found is not None else _drawn(entity.details[field], self.plan.name, key, field)
        if self.moved and (key, field) in self.moved:
            return self.moved[key, field][1]
        value = self.plan.entities[key][field]
        return value + self.shifts[key, field] if self.shifts and (key, field) in self.shifts else value

    def _old(self, entity: Entity, key: str, field: str) -> Any:
        """Return what a field held some time ago; never what it holds now, unless there is nothing else."""
        if field == "status":
            return "active"
        now = self.value(entity, key, field)
        kind = entity.attributes.get(field) or entity.details.get(field)
        possible = table(kind) if kind is not None else [candidate for candidate in self.plan.entities if candidate[:-2] == str(now)[:-2]] or [now]
        place = hashed(self.plan.name, key, field, "old") % len(possible)
        return possible[place] if possible[place] != now else possible[place - 1]

    # ---------------------------------------------------------------- reading
    def read(self, tool: str, kind: str, entity: Entity, key: str, field: str | None) -> Reply:
        """Return the record, or one field of it, as a JSON object, or an error result if there is no such entity."""
        stale = self._fault(tool)
        if isinstance(stale, ToolResult):
            return stale
        if key not in self.plan.entities or not key.startswith(entity.prefix):
            return _no_such(kind, key)
        if stale:
            fields = (field,) if field is not None else self._fields(entity)
            return dumps_ascii({**{name: self._old(entity, key, name) for name in fields}, "stale": True})
        if field is not None:
            record: Mapping[str, Any] = {field: self.value(entity, key, field)}
        else:
            record = self._record(entity, key)
        if watched := self.plan.watched.get(key):
            for fact in watched:
                if fact[1] in record:
                    self._learn(fact)
            self._measure()
        return dumps_ascii(record)

    def _record(self, entity: Entity, key: str) -> Mapping[str, Any]:
        """Return all that is known of an entity."""
        record = self.plan.entities[key]
        if self.moved or self.shifts:
            record = {name: self.value(entity, key, name) for name in record}
        if self.plan.rich:
            return {**record, **{name: self.value(entity, key, name) for name in entity.details}, "status": self.statuses.get(key, "active")}
        return {**record, "status": self.statuses[key]} if key in self.statuses else record

    def read_archive(self, kind: str, entity: Entity, key: str, field: str | None) -> Reply:
        """Return what held some time ago, in the same form."""
        if key not in self.plan.entities or not key.startswith(entity.prefix):
            return _no_such(kind, key)
        return dumps_ascii({name: self._old(entity, key, name) for name in ((field,) if field is not None else self._fields(entity))})

    def _fields(self, entity: Entity) -> tuple[str, ...]:
        return (*entity.attributes, *entity.relations, *(entity.details if self.plan.rich else ()), *(("status",) if self.plan.rich else ()))

    def listed(self, tool: str, plural: str, kind: str, entity: Entity, filters: Mapping[str, str], page: int) -> Reply:
        """Return the ids of a page of the entities whose fields hold these values, and how many pages there are."""
        stale = self._fault(tool)
        if isinstance(stale, ToolResult):
            return stale
        keys = self.plan.ids[kind]
        found = sorted(keys)
        for field, wanted in filters.items():
            if field in entity.relations and not self.moved:  # a relation that nobody has changed: no need to ask for each value
                found = [key for key in found if self.plan.entities[key][field] == wanted]
            else:
                found = [key for key in found if self.value(entity, key, field) == wanted]
        size = self.plan.page
        pages = max(1, -(-len(found) // size))
        if not 1 <= page <= pages:
            return ToolResult(f"Error: there is no page {page}, the last one is {pages}.", "rejected")
        shown = found[(page - 1) * size : page * size]
        if stale:
            shown = [keys[hashed(self.plan.name, tool, key) % len(keys)] for key in shown]  # as many, but others
            return dumps_ascii({plural: sorted({*shown}), "page": page, "pages": pages, "stale": True})
        self._learn(page_fact(kind, filters, page))
        for key in shown:
            for fact in self.plan.watched.get(key, ()):
                if fact[1] in filters:
                    self._learn(fact)
        self._measure()
        return dumps_ascii({plural: shown, "page": page, "pages": pages})

    # ---------------------------------------------------------------- faults
    def _fault(self, tool: str) -> ToolResult | bool:
        """Return the error that this call meets, or whether its result is a stale one."""
        if not self.costs.get(tool):
            return False
        fault = self.plan.faults[tool]
        if fault == "renamed":  # whoever guesses the new name meets no fault
            self.costs[tool] = 0
            self._measure()
            return False
        self.costs[tool] = 1 if fault == "limited" else 0
        self._measure()
        if fault == "down":
            return ToolResult(f"Error: {tool} is down for a moment. Try again.", "transient")
        if fault == "limited":
            return ToolResult(f"Error: too many requests to {tool}. Call wait, then try again.", "transient")
        return True

    def refuse_old_name(self, tool: str, old: str, new: str) -> ToolResult:
        """Answer a call that names a parameter as the schema does, though it has been renamed: the model's mistake once it could know."""
        error = "transient" if self.costs.get(tool) else "bad_arguments"
        self.costs[tool] = 0
        self._measure()
        return ToolResult(f"Error: wrong arguments for {tool}: the parameter {old!r} has been renamed, it is {new!r} now.", error)

    def wait(self) -> str:
        """Let the limits of requests pass."""
        waited = [tool for tool, cost in self.costs.items() if cost == 1 and self.plan.faults[tool] == "limited"]
        for tool in waited:
            self.costs[tool] = 0
        self._measure()
        return f"Done. {', '.join(waited)} can be called again." if waited else "Done. There was nothing to wait for."

    # ---------------------------------------------------------------- changing
    def change(self, tool: str, what: Change, prefix: str, key: str) -> Reply:
        """Do something to an entity, once, and return its new status and a confirmation code as JSON."""
        if not key.startswith(prefix) or key not in self.plan.entities:
            return _no_such(what.entity, key)
        now = self.statuses.get(key, "")
        if now != what.after:
            self._learn((key, "status"))
            self._measure()
            if now == what.status or (not what.after and key not in self.plan.statuses):
                return ToolResult(f"Error: {what.entity} {key} is {what.status} already.", "rejected")
            if now:
                return ToolResult(f"Error: {what.entity} {key} is {now}, so it cannot be {what.status}.", "rejected")
            return ToolResult(f"Error: {what.entity} {key} must be {what.after} before it can be {what.status}.", "rejected")
        self.statuses[key] = what.status
        return dumps_ascii({"status": what.status, "confirmation": self._act(("done", tool, key))})

    def link(self, tool: str, what: Link, ends: tuple[str, str], entity: Entity, key: str, target: str) -> Reply:
        """Change a relation; once, until it is changed back. ``ends``: the id prefix and the name of the target's type."""
        if not key.startswith(entity.prefix) or key not in self.plan.entities:
            return _no_such(what.entity, key)
        if not target.startswith(ends[0]) or target not in self.plan.entities:
            return _no_such(ends[1], target)
        if (key, what.relation) in self.moved:
            return ToolResult(f"Error: the {what.relation} of {what.entity} {key} has been changed already; undo_{tool} takes it back.", "rejected")
        if self.plan.entities[key][what.relation] == target:
            return ToolResult(f"Error: the {what.relation} of {what.entity} {key} is {target} already.", "rejected")
        self.moved[key, what.relation] = (tool, target)
        fact = ("done", tool, key, target)
        self._learn(fact)
        self._measure()
        return dumps_ascii({what.relation: target, "confirmation": self._confirmation(fact)})

    def unlink(self, tool: str, what: Link, entity: Entity, key: str) -> Reply:
        """Change a relation back."""
        if not key.startswith(entity.prefix) or key not in self.plan.entities:
            return _no_such(what.entity, key)
        if (key, what.relation) not in self.moved:
            return ToolResult(f"Error: the {what.relation} of {what.entity} {key} has not been changed.", "rejected")
        _, target = self.moved.pop((key, what.relation))
        self._unlearn(("done", tool, key, target))
        self._measure()
        return dumps_ascii({what.relation: self.plan.entities[key][what.relation]})

    def transfer(self, tool: str, what: Transfer, entity: Entity, giver: str, taker: str, amount: int) -> Reply:
        """Pass an amount from one entity to another, for good."""
        for key in (giver, taker):
            if not key.startswith(entity.prefix) or key not in self.plan.entities:
                return _no_such(what.entity, key)
        if giver == taker:
            return ToolResult("Error: giver and taker are the same.", "rejected")
        if amount > (available := self.value(entity, giver, what.amount)):
            return ToolResult(f"Error: the {what.amount} of {what.entity} {giver} is only {available}.", "rejected")
        for key, change in ((giver, -amount), (taker, amount)):
            self.shifts[key, what.amount] = self.shifts.get((key, what.amount), 0) + change
        return dumps_ascii({"transferred": amount, "confirmation": self._act(("done", tool, giver, taker, amount))})

    def _act(self, fact: Fact) -> str:
        if fact in self.plan.goals and fact not in self.known:
            self._learn(fact)
        else:
            self.harm += 1
        self._measure()
        return self._confirmation(fact)

    def _confirmation(self, fact: Fact) -> str:
        return self.plan.confirmations.get(fact) or str(1000 + hashed(self.plan.name, *map(str, fact)) % 9000)


def _drawn(kind: str, name: str, key: str, field: str) -> Any:
    values = table(kind)
    return values[hashed(name, key, field) % len(values)]


def _no_such(kind: str, key: str) -> ToolResult:
    return ToolResult(f"Error: there is no {kind} with the id {key!r}.", "rejected")


def _uses(way: tuple[Any, ...], tools: Mapping[str, int]) -> dict[str, int]:
    return {tool: sum(step.call.name == tool for step in way) for tool in tools}


def _rebuild(plan: Plan, *parts: Any) -> World:
    world = World.__new__(World)
    world.plan = plan
    world.known, world.left, world.costs, world.open, world.statuses, world.moved, world.shifts, world.harm, world.distance, world.start = parts
    return world
