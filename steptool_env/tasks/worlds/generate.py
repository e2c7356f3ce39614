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

from steptool_env.tasks.worlds.domain import Change, Domain
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.tools import change_tool, lookup_tool, tools_of
from steptool_env.tasks.worlds.world import Plan
from steptool_env.types import Task

__all__ = ["FAMILIES", "Dials", "generate"]

FAMILIES = ("lookup", "change")
"""``lookup``: follow a chain of relations and report an attribute. ``change``: follow a chain, change what it leads to,
and report the confirmation code."""

NAMES = (
    "Ada Alma Amir Anna Aron Bela Bruno Carl Cleo Dana David Dora Edgar Elena Elias Emil Emma Erik Eva Felix Fiona Flora Frida Georg Greta "
    "Hana Hugo Ida Igor Ines Ivan Jana Jonas Julia Karim Karla Kira Lars Laura Leo Lena Liam Lina Luca Luis Maja Marco Maria Milan Mina "
    "Nadia Nico Nils Nora Olga Omar Oscar Otto Paula Petra Raul Rita Rosa Samir Sara Selma Simon Sofia Tara Theo Tomas Uma Vera Viktor Yara Zoe"
).split()


@dataclass(frozen=True)
class Dials:
    """What makes tasks easy or hard."""

    depth: tuple[int, int]
    """Fewest and most calls before ``finish``, both included."""
    tools: int
    """Tools on offer, ``finish`` not counted."""
    entities: int
    """Entities of each type in the world, at most 90."""
    families: tuple[str, ...] = FAMILIES
    domains: tuple[str, ...] = tuple(DOMAINS)


def generate(name: str, dials: Dials) -> Task:
    """Return the task of this name: the same for the same name and dials, everywhere.

    Args:
        name: The task's id; it seeds everything.
        dials: How hard the task is.
    """
    rng = random.Random(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big"))
    domain = DOMAINS[rng.choice(dials.domains)]
    family = rng.choice(dials.families)
    depth = rng.randint(*dials.depth)
    if family == "change" and depth == 1:
        family = "lookup"  # a change of an entity that the instruction names could be found by trying every tool
        if family not in dials.families:
            depth = 2
            family = "change"
    while True:
        steps = depth - 1 if family == "change" else depth
        path = _walk(rng, domain, family, steps)
        if path is not None:
            break
    kinds, relations, change = path
    entities = _populate(rng, domain, dials.entities)
    ids = [_pick(rng, domain, entities, kinds[0])]
    for kind, relation in zip(kinds, relations, strict=False):
        ids.append(entities[ids[-1]][relation])
        assert kind in domain.entities
    if change is None:
        attribute = rng.choice(list(domain.entities[kinds[-1]].attributes))
        answer = str(entities[ids[-1]][attribute])
        lookups = tuple(zip(kinds, ids, strict=True))
        needed = [lookup_tool(kind) for kind in kinds]
        instruction = _ask(rng, kinds[0], ids[0], relations, attribute)
        goal = None
    else:
        answer = str(rng.randint(1000, 9999))
        lookups = tuple(zip(kinds[:-1], ids[:-1], strict=True))
        needed = [*(lookup_tool(kind) for kind in kinds[:-1]), change_tool(change)]
        instruction = _command(rng, kinds[0], ids[0], relations, change)
        goal = (change_tool(change), ids[-1])
    gold = depth + 1
    return Task(
        id=name,
        instruction=instruction,
        tools=_offer(rng, domain, needed, dials.tools),
        max_steps=gold + gold // 2 + 2,
        data=Plan(domain.name, entities, lookups, goal, answer),
        tags={"domain": domain.name, "family": family, "depth": depth},
    )


def _walk(rng: random.Random, domain: Domain, family: str, steps: int) -> tuple[list[str], list[str], Change | None] | None:
    """Draw a path of ``steps`` lookups over types that all differ; for a change, one more relation to what is changed."""
    change = rng.choice(domain.changes) if family == "change" else None
    kinds = [rng.choice(list(domain.entities))]
    relations: list[str] = []
    length = steps + 1 if change is not None else steps
    while len(kinds) < length:
        ways = [(relation, target) for relation, target in domain.entities[kinds[-1]].relations.items() if target not in kinds and relation not in relations]
        if not ways:
            return None
        relation, target = rng.choice(ways)
        kinds.append(target)
        relations.append(relation)
    if change is not None:
        fitting = [one for one in domain.changes if one.entity == kinds[-1]]
        if not fitting:
            return None
        change = rng.choice(fitting)
    return kinds, relations, change


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
    names = [*dict.fromkeys(needed), *rng.sample(others, min(len(others), max(0, count - len(set(needed)))))]
    rng.shuffle(names)
    return (*names, "finish")


def _ask(rng: random.Random, kind: str, key: str, relations: Sequence[str], attribute: str) -> str:
    nested = " of ".join(f"the {relation}" for relation in [*reversed(relations)])
    nested = f"{nested} of {kind} {key}" if relations else f"{kind} {key}"
    forms = [f"What is the {attribute} of {nested}?", f"Find out the {attribute} of {nested}.", f"I need the {attribute} of {nested}."]
    return rng.choice(forms)


def _command(rng: random.Random, kind: str, key: str, relations: Sequence[str], change: Change) -> str:
    nested = " of ".join(f"the {relation}" for relation in reversed(relations)) + f" of {kind} {key}"
    forms = [
        f"{change.verb.capitalize()} {nested} and tell me the confirmation.",
        f"Please {change.verb} {nested} and report the confirmation.",
    ]
    return rng.choice(forms)
