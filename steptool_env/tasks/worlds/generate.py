"""From a seed to a task: draw a world, a path through it, and the words that ask for what lies at its end.

Everything random comes from one ``random.Random`` that is seeded by the task's name, so a task is the same on every
machine, in every process and for every hash seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds.domain import Change, Domain
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.tools import change_tool, lookup_tool, tools_of
from steptool_env.tasks.worlds.world import Plan
from steptool_env.types import Task

__all__ = ["FAMILIES", "REPLIES", "Dials", "generate"]

FAMILIES = ("lookup", "change")
"""``lookup``: follow a chain of relations and report an attribute. ``change``: follow a chain, change what it leads to,
and report the confirmation code."""

LOOKUPS = (
    "What is the {attribute} of {where}?",
    "Find out the {attribute} of {where}.",
    "I need the {attribute} of {where}.",
)
CHANGES = (
    "{Verb} {where} and tell me the confirmation.",
    "Please {verb} {where} and report the confirmation.",
)
"""Wordings of the two families."""

NAMES = (
    "Ada Alma Amir Anna Aron Bela Bruno Carl Cleo Dana David Dora Edgar Elena Elias Emil Emma Erik Eva Felix Fiona Flora Frida Georg Greta "
    "Hana Hugo Ida Igor Ines Ivan Jana Jonas Julia Karim Karla Kira Lars Laura Leo Lena Liam Lina Luca Luis Maja Marco Maria Milan Mina "
    "Nadia Nico Nils Nora Olga Omar Oscar Otto Paula Petra Raul Rita Rosa Samir Sara Selma Simon Sofia Tara Theo Tomas Uma Vera Viktor Yara Zoe"
).split()

REPLIES = ("record", "field")
"""``record``: all that is known of an entity; what is needed has to be found in it. ``field``: the one field that the call
names; short enough for a very small model."""

TRIES = 1000
"""How many paths are drawn before a domain counts as too small; in the domains here, at least one in fifteen fits."""


@dataclass(frozen=True)
class Dials:
    """What makes tasks easy or hard."""

    depth: tuple[int, int]
    """Fewest and most calls before ``finish``, both included."""
    tools: int
    """Tools on offer, ``finish`` not counted; more where the task needs more, fewer where the domain has no more."""
    entities: int
    """Entities of each type in the world, at most 90."""
    replies: str = "record"
    """What a lookup returns, one of ``REPLIES``."""
    families: tuple[str, ...] = FAMILIES
    domains: tuple[str, ...] = tuple(DOMAINS)


def generate(name: str, dials: Dials) -> Task:
    """Return the task of this name: the same for the same name and dials, everywhere.

    A change takes at least two calls: where the instruction named what to change, trying every tool on it would do.
    Where a change of one call is drawn, the task is a lookup of one call, or, if lookups are not wanted, a change of two.

    Args:
        name: The task's id; it seeds everything.
        dials: How hard the task is.

    Raises:
        InvalidArgument: The domain is too small for a task of this depth.
    """
    rng = random.Random(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))
    domain = DOMAINS[rng.choice(dials.domains)]
    family = rng.choice(dials.families)
    depth = rng.randint(*dials.depth)
    if family == "change" and depth == 1:
        family, depth = ("lookup", 1) if "lookup" in dials.families else ("change", 2)
    kinds, relations, change = _path(rng, domain, family, depth)
    entities = _populate(rng, domain, dials.entities)
    ids = [_pick(rng, domain, entities, kinds[0])]
    for relation in relations:
        ids.append(entities[ids[-1]][relation])
    where = " of ".join([*(f"the {relation}" for relation in reversed(relations)), f"{kinds[0]} {ids[0]}"])
    reads = list(zip(kinds, ids, relations, strict=False))  # what is asked of the last one comes below
    if change is None:
        attribute = rng.choice(list(domain.entities[kinds[-1]].attributes))
        reads.append((kinds[-1], ids[-1], attribute))
        answer = str(entities[ids[-1]][attribute])
        needed = [lookup_tool(kind) for kind in kinds]
        goal = None
        instruction = rng.choice(LOOKUPS).format(attribute=attribute, where=where)
    else:
        answer = str(rng.randint(1000, 9999))
        needed = [*(lookup_tool(kind) for kind in kinds[:-1]), change_tool(change)]
        goal = (change_tool(change), ids[-1])  # what is changed need not be read
        instruction = rng.choice(CHANGES).format(verb=change.verb, Verb=change.verb.capitalize(), where=where)
    lookups = tuple((kind, key, field if dials.replies == "field" else None) for kind, key, field in reads)
    gold = depth + 1
    return Task(
        id=name,
        instruction=instruction,
        tools=_offer(rng, domain, needed, dials.tools),
        max_steps=gold + gold // 2 + 2,
        data=Plan(domain.name, entities, lookups, goal, answer),
        tags={"domain": domain.name, "family": family, "depth": depth},
    )


def _path(rng: random.Random, domain: Domain, family: str, depth: int) -> tuple[list[str], list[str], Change | None]:
    """Draw a path over ``depth`` entity types that all differ; for a change, one that ends at something to change."""
    for _ in range(TRIES):
        kinds, relations = [rng.choice(list(domain.entities))], list[str]()
        while len(kinds) < depth:
            onward = domain.entities[kinds[-1]].relations
            ways = [(relation, target) for relation, target in onward.items() if relation not in relations and target not in kinds]
            if not ways:
                break
            relation, target = rng.choice(ways)
            kinds.append(target)
            relations.append(relation)
        changes = [change for change in domain.changes if change.entity == kinds[-1]]
        if len(kinds) == depth and (family != "change" or changes):
            return kinds, relations, rng.choice(changes) if family == "change" else None
    raise InvalidArgument(f"domain {domain.name!r} has no path for a {family} of {depth} calls: it needs more relations, or the depth must be smaller")


def _populate(rng: random.Random, domain: Domain, count: int) -> dict[str, Mapping[str, Any]]:
    ids = {kind: [f"{entity.prefix}{number}" for number in rng.sample(range(10, 100), count)] for kind, entity in domain.entities.items()}
    records: dict[str, Mapping[str, Any]] = {}
    for kind, entity in domain.entities.items():
        for key in ids[kind]:
            record: dict[str, Any] = {attribute: _value(rng, sort) for attribute, sort in entity.attributes.items()}
            for relation, target in entity.relations.items():
                record[relation] = rng.choice(ids[target])
            records[key] = record
    return records


def _value(rng: random.Random, kind: str) -> str | int:
    if kind == "name":
        return rng.choice(NAMES)
    return rng.randint(100, 9999) if kind == "amount" else str(rng.randint(1000, 9999))


def _pick(rng: random.Random, domain: Domain, entities: Mapping[str, Any], kind: str) -> str:
    prefix = domain.entities[kind].prefix
    return rng.choice([key for key in entities if key.startswith(prefix)])


def _offer(rng: random.Random, domain: Domain, needed: Sequence[str], count: int) -> tuple[str, ...]:
    others = [name for name in tools_of(domain.name) if name not in needed]
    names = [*needed, *rng.sample(others, min(len(others), max(0, count - len(needed))))]
    rng.shuffle(names)
    return (*names, "finish")
