"""``pages``: list what fits a condition, over all pages of the list."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene, Wording

__all__ = ["Pages"]

_ASK = Wording(
    seen=("List the ids of all {plural} whose {relation} is {where}.", "Which {plural} have {where} as their {relation}? Report all ids."),
    unseen=(
        "I need the id of every single {kind} with {where} as its {relation}.",
        "Collect all {plural} that belong to {where}, their {relation}, and answer with the ids.",
    ),
)


class Pages(Family):
    """More entries than a page holds."""

    name: ClassVar[str] = "pages"
    least: ClassVar[int] = 2

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return dials.entities > dials.page and any(entity.relations for entity in domain.entities.values())

    def draw(self, scene: Scene, depth: int) -> Quest:
        rng, entities, page = scene.rng, scene.domain.entities, scene.dials.page
        kind = rng.choice([name for name, entity in entities.items() if entity.relations])
        relation, target = rng.choice(list(entities[kind].relations.items()))
        keys = scene.keys(kind)
        pages = rng.randint(2, max(2, min(3, depth, -(-len(keys) // page))))
        if target == kind:
            raise Misfit
        place, kinds, ids = scene.path(depth - pages + 1, [target], without=kind)
        chosen = rng.sample(keys, rng.randint(page * (pages - 1) + 1, min(page * pages, len(keys))))
        other_keys = [key for key in scene.keys(target) if key != ids[-1]]
        for key in keys:
            if key in chosen:
                scene.entities[key][relation] = ids[-1]
            elif scene.entities[key][relation] == ids[-1]:
                scene.entities[key][relation] = rng.choice(other_keys)
        instruction = scene.say(_ASK, plural=scene.domain.plural(kind), kind=kind, relation=relation, where=place)
        ways = scene.listing(kind, {relation: ids[-1]}, scene.along(kinds, ids, place.relations), ())
        return Quest(instruction, Answer(tuple(sorted(chosen)), ordered=False), ways)
