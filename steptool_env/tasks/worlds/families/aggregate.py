"""``aggregate``: add up an amount over a list, count it, or find where it is largest or smallest."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene, Wording

__all__ = ["Aggregate"]

_ASK = {
    "sum": Wording(
        seen=(
            "What is the sum of the {amount} of all {plural} whose {relation} is {where}?",
            "Add up the {amount} of all {plural} whose {relation} is {where}.",
        ),
        unseen=("How much {amount} do all {plural} of {where}, their {relation}, have together?",),
    ),
    "count": Wording(
        seen=("How many {plural} have {where} as their {relation}, and what is the sum of their {amount}? Report both numbers, in this order.",),
        unseen=("Count the {plural} with {where} as their {relation} and add up their {amount}: the count first, then the sum.",),
    ),
    "largest": Wording(
        seen=("Of all {plural} whose {relation} is {where}, take the one with the largest {amount}. What is its {attribute}?",),
        unseen=("Among the {plural} with {where} as their {relation}, which has the most {amount}? Answer with its {attribute}.",),
    ),
    "smallest": Wording(
        seen=("Of all {plural} whose {relation} is {where}, take the one with the smallest {amount}. What is its {attribute}?",),
        unseen=("Among the {plural} with {where} as their {relation}, which has the least {amount}? Answer with its {attribute}.",),
    ),
}


class Aggregate(Family):
    """A chain, a list of what belongs to its end, and a lookup for every entry."""

    name: ClassVar[str] = "aggregate"
    least: ClassVar[int] = 3

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return any(entity.relations and "amount" in entity.attributes.values() for entity in domain.entities.values())

    def draw(self, scene: Scene, depth: int) -> Quest:
        rng, entities = scene.rng, scene.domain.entities
        kind = rng.choice([name for name, entity in entities.items() if entity.relations and "amount" in entity.attributes.values()])
        amount = next(name for name, value_kind in entities[kind].attributes.items() if value_kind == "amount")
        attribute = rng.choice([name for name in entities[kind].attributes if name != amount])
        relation, target = rng.choice(list(entities[kind].relations.items()))
        what = rng.choice(list(_ASK))
        last = int(what in ("largest", "smallest") and scene.dials.replies == "field")  # the last field is a call of its own
        keys = scene.keys(kind)
        count = rng.randint(2, max(2, min(scene.dials.branching, depth - 1 - last, len(keys))))
        length = depth - count - -(-count // scene.dials.page) - last + 1
        if target == kind or length < 1:
            raise Misfit
        place, kinds, ids = scene.path(length, [target], without=kind)
        chosen = rng.sample(keys, count)
        other_keys = [key for key in scene.keys(target) if key != ids[-1]]
        for key in keys:
            if key in chosen:
                scene.entities[key][relation] = ids[-1]
            elif scene.entities[key][relation] == ids[-1]:
                scene.entities[key][relation] = rng.choice(other_keys)
        amounts = {key: scene.entities[key][amount] for key in chosen}
        wanted = [(kind, key, amount) for key in sorted(chosen)]
        answer: tuple[str, ...] = (str(sum(amounts.values())),)
        if what == "count":
            answer = (str(count), *answer)
        elif what != "sum":
            best = (max if what == "largest" else min)(amounts, key=lambda key: amounts[key])
            if len({*amounts.values()}) < count:
                raise Misfit
            wanted.append((kind, best, attribute))
            answer = (str(scene.entities[best][attribute]),)
        ask = _ASK[what]
        instruction = scene.say(ask, plural=scene.domain.plural(kind), relation=relation, where=place, amount=amount, attribute=attribute)
        ways = scene.listing(kind, {relation: ids[-1]}, scene.along(kinds, ids, place.relations), wanted)
        return Quest(instruction, Answer(answer), ways)
