"""From a name to a task: draw a domain, a family and what it asks, and put the tools on offer.

Everything random comes from one ``random.Random`` that is seeded by the task's name, so a task is the same on every
machine, in every process and for every hash seed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.families import FAMILIES, Family
from steptool_env.tasks.worlds.faults import COST, draw_faults
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Plan, index
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene
from steptool_env.tasks.worlds.tools import archive_tool, pool
from steptool_env.tasks.worlds.values import seeded
from steptool_env.types import Task

__all__ = ["generate"]

TRIES = 1000
"""How often a task is drawn before its domain counts as too small; most need one."""
_WORD = re.compile(r"\w[\w.-]*\w|\w")


def generate(name: str, dials: Dials) -> Task:
    """Return the task of this name: the same for the same name and dials, everywhere.

    Args:
        name: The task's id; it seeds everything.
        dials: How hard the task is.

    Raises:
        InvalidArgument: The domain is too small for a task of this depth.
    """
    rng = seeded(name)
    fitting = _fitting(dials)
    if not fitting:
        asked = f"depth {dials.depth} in the domains {', '.join(dials.domains)}"
        raise InvalidArgument(f"there is no task of {' or '.join(dials.families)} with {asked}: choose others, or more depth")
    domain, families = rng.choice(fitting)
    family = rng.choice(families)
    for tries in range(TRIES):
        if tries and tries % 100 == 0:  # a domain may be too small for this family
            family = rng.choice(families)
        if tries % 20 == 0:
            depth = max(family.least, rng.randint(*dials.depth))
        scene = Scene(rng, domain, dials, name, family.rich)
        try:
            quest = family.draw(scene, depth)
        except Misfit:
            continue
        if dials.depth[0] <= len(quest.ways[0]) <= dials.depth[1] and not _told(quest, name):
            return _task(scene, family, quest)
    kind = family.name if len(families) == 1 else "task"
    raise InvalidArgument(f"domain {domain.name!r} has no {kind} of {dials.depth[0]} to {dials.depth[1]} calls: it needs more relations, or less depth")


@functools.cache
def _fitting(dials: Dials) -> tuple[tuple[Domain, tuple[Family, ...]], ...]:
    """Return the domains that have tasks of some of the families, and which."""
    chosen = [family for name in dials.families if (family := FAMILIES[name]).least <= dials.depth[1]]
    pairs = ((domain, tuple(family for family in chosen if family.fits(domain, dials))) for domain in map(DOMAINS.__getitem__, dials.domains))
    return tuple((domain, families) for domain, families in pairs if families)


def _told(quest: Quest, name: str) -> bool:
    """Return whether the request or the task's id happens to contain the answer."""
    words = {*_WORD.findall(quest.instruction.casefold()), *name.split("-")}
    return all(part.casefold() in words for part in quest.answer.parts)


def _task(scene: Scene, family: Family, quest: Quest) -> Task:
    dials = scene.dials
    needed = [step.call.name for step in quest.ways[0]]
    offer = _offer(scene, dict.fromkeys([*needed, *quest.offered]), family.rich)
    faults = draw_faults(scene.rng, needed, offer, dials.faults) if dials.faults else {}
    ways = tuple(way for way in quest.ways if {step.call.name for step in way} <= {*offer})
    needs, watched = index(ways)
    tags: dict[str, str | int] = {"domain": scene.domain.name, "family": family.name, "depth": len(quest.ways[0])}
    if faults:
        tags["faults"] = len(faults)
    gold = 1 + min(len(way) + sum(COST[faults[tool]] for tool in {step.call.name for step in way} & faults.keys()) for way in ways)
    plan = Plan(
        domain=scene.domain.name,
        name=scene.name,
        entities=scene.entities,
        ways=ways,
        answer=quest.answer,
        ids=scene.ids,
        goals=quest.goals,
        statuses=quest.statuses,
        confirmations=quest.confirmations,
        details=scene.details,
        faults=faults,
        rich=family.rich,
        page=dials.page,
        needs=needs,
        watched=watched,
    )
    return Task(
        id=scene.name,
        instruction=quest.instruction,
        tools=(*offer, *(("wait",) if dials.faults else ()), "finish"),
        max_steps=gold + gold // 2 + 2,
        data=plan,
        tags=tags,
    )


def _offer(scene: Scene, needed: Iterable[str], rich: bool) -> list[str]:
    """Return the tools that are needed, look-alikes of some, and others, in random order."""
    rng, dials = scene.rng, scene.dials
    names = [*needed]
    if dials.lookalikes:
        doubles = [archive_tool(kind) for kind in scene.domain.entities if f"get_{kind}" in names]
        names += rng.sample(doubles, min(dials.lookalikes, len(doubles)))
    fillers = [name for name in pool(scene.domain, rich) if name not in names and not name.startswith("undo_")]
    names += rng.sample(fillers, min(len(fillers), max(0, dials.tools - len(names))))
    names += [undo for name in names if (undo := f"undo_{name}") in pool(scene.domain, rich) and undo not in names]  # changes can be taken back
    rng.shuffle(names)
    return names
