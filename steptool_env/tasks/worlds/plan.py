"""``Plan``: the private side of a task. What its world holds, and what has to be learned and changed in it, as a graph.

A task is about **facts**: that a field of an entity has been read, that a page of a list has been seen, that a change has been
made. A **step** is a call that some facts are wanted from; it is done once they hold, whatever call brought them. A **way** is a
set of steps that suffices, in an order in which every id is known when it is needed. The distance to the goal is the number of
steps that the shortest way still lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.types import ToolCall

__all__ = ["Fact", "Plan", "Step", "Way", "index", "page_fact"]

Fact: TypeAlias = tuple[Any, ...]
"""``(id, field)`` has been read; ``("page", type, filters, number)`` has been seen; ``("done", tool, *arguments)`` has been done."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call, and the facts that are wanted from it."""

    call: ToolCall
    facts: tuple[Fact, ...]


Way: TypeAlias = tuple[Step, ...]


def page_fact(kind: str, filters: Mapping[str, str], number: int) -> Fact:
    """Return the fact that a page of a list has been seen."""
    return ("page", kind, tuple(sorted(filters.items())), number)


@dataclass(frozen=True, slots=True)
class Plan:
    """Immutable and picklable; shared by all copies of an episode's state."""

    domain: str
    name: str
    """The task's id; what is worked out later depends on it."""
    entities: Mapping[str, Mapping[str, Any]]
    """Id -> record, for every entity of the world, before the agent acts."""
    ways: tuple[Way, ...]
    answer: Answer
    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Type -> ids of its entities."""
    goals: tuple[Fact, ...] = ()
    """The changes that have to be made; every other one is harm."""
    statuses: Mapping[str, str] = field(default_factory=dict)
    """Id -> status that it has from the start."""
    confirmations: Mapping[Fact, str] = field(default_factory=dict)
    """Change -> the confirmation code that it returns."""
    details: Mapping[Fact, Any] = field(default_factory=dict)
    """(id, field) -> value, where it was chosen for the task."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Tool -> fault, see ``faults.py``."""
    rich: bool = False
    """Whether records show their details."""
    page: int = 10
    """Entries on a page of a list."""
    needs: Mapping[Fact, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Fact -> the steps, as (way, number), that want it."""
    watched: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    """Id -> the facts about its fields that some step wants."""


def index(ways: Sequence[Way]) -> tuple[dict[Fact, tuple[tuple[int, int], ...]], dict[str, tuple[Fact, ...]]]:
    """Return ``Plan.needs`` and ``Plan.watched`` of these ways."""
    needs: dict[Fact, list[tuple[int, int]]] = {}
    for number, way in enumerate(ways):
        for place, step in enumerate(way):
            for fact in step.facts:
                needs.setdefault(fact, []).append((number, place))
    watched: dict[str, list[Fact]] = {}
    for fact in needs:
        if len(fact) == 2:
            watched.setdefault(fact[0], []).append(fact)
    return {fact: tuple(places) for fact, places in needs.items()}, {key: tuple(facts) for key, facts in watched.items()}
