"""``filter``: list what fits two conditions."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene, Wording
from steptool_env.tasks.worlds.values import is_options, table

__all__ = ["Filter"]

_ASK = Wording(
    seen=(
        "List the ids of all {plural} whose {relation} is {where} and whose {state} is {value}.",
        "Which {plural} have {where} as their {relation} and {value} as their {state}? Report their ids.",
    ),
    unseen=(
        "I need the id of every {kind} with {where} as its {relation}, but only where the {state} is {value}.",
        "Give me all {plural} with the {state} {value} that belong to {where}, their {relation}: the ids will do.",
    ),
)


class Filter(Family):
    """A chain to one condition, a state as the other; all ids that fit, in any order."""

    name: ClassVar[str] = "filter"
    least: ClassVar[int] = 2

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return any(entity.relations and any(map(is_options, entity.details.values())) for entity in domain.entities.values())

    def draw(self, scene: Scene, depth: int) -> Quest:
        rng, entities = scene.rng, scene.domain.entities
        kind = rng.choice([name for name, entity in entities.items() if entity.relations and any(map(is_options, entity.details.values()))])
        relation, target = rng.choice(list(entities[kind].relations.items()))
        state = next(name for name, value_kind in entities[kind].details.items() if is_options(value_kind))
        if target == kind:
            raise Misfit
        place, kinds, ids = scene.path(depth, [target], without=kind)
        options = table(entities[kind].details[state])
        value = rng.choice(options)
        keys = scene.keys(kind)
        count = rng.randint(1, min(scene.dials.branching, scene.dials.page, len(keys) - 1))
        chosen = rng.sample(keys, count + 1)  # the last one has the relation, but another state
        for key in chosen:
            scene.entities[key][relation] = ids[-1]
        for key in keys:
            if scene.entities[key][relation] == ids[-1]:
                fits = key in chosen[:-1]
                if fits != (scene.value(kind, key, state) == value):
                    scene.details[key, state] = value if fits else rng.choice([option for option in options if option != value])
        filters = {relation: ids[-1], state: str(value)}
        instruction = scene.say(_ASK, plural=scene.domain.plural(kind), kind=kind, relation=relation, where=place, state=state, value=value)
        ways = scene.listing(kind, filters, scene.along(kinds, ids, place.relations), ())
        return Quest(instruction, Answer(tuple(sorted(chosen[:-1])), ordered=False), ways)
