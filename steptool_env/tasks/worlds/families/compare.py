"""``compare``: find out at the end of which branch an amount is largest or smallest, and report something else of it."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.scene import Misfit, Place, Quest, Scene, Wording

__all__ = ["Compare"]

_ASK = Wording(
    seen=(
        "Compare {where}: what is the {attribute} of the one with the {order} {amount}?",
        "Which of {where} has the {order} {amount}? Report its {attribute}.",
    ),
    unseen=(
        "Look at {where}. I want to know the {attribute} of the {kind} whose {amount} is {order}.",
        "Of {where}, take the one with the {order} {amount} and tell me its {attribute}.",
    ),
)


class Compare(Family):
    """Two branches or more that end at the same type of entity."""

    name: ClassVar[str] = "compare"
    least: ClassVar[int] = 3

    def draw(self, scene: Scene, depth: int) -> Quest:
        total = depth - (scene.dials.replies == "field")  # the last field is a call of its own
        count = scene.rng.randint(2, max(2, min(scene.dials.branching, total)))
        entities = scene.domain.entities
        kind = scene.rng.choice([name for name, entity in entities.items() if "amount" in entity.attributes.values()])
        amount = next(name for name, value_kind in entities[kind].attributes.items() if value_kind == "amount")
        rivals: dict[str, int] = {}
        places, reads = list[Place](), list[tuple[str, str, str]]()
        for length in scene.split(total, count):
            place, kinds, ids = scene.path(length, [kind])
            reads += scene.along(kinds, ids, place.relations, amount)
            rivals[ids[-1]] = scene.entities[ids[-1]][amount]
            places.append(place)
        if len(rivals) < count or len({*rivals.values()}) < count:
            raise Misfit
        order = scene.rng.choice(("largest", "smallest"))
        winner = (max if order == "largest" else min)(rivals, key=lambda key: rivals[key])
        attribute = scene.rng.choice([name for name in entities[kind].attributes if name != amount])
        reads.append((kind, winner, attribute))
        return Quest(
            instruction=scene.say(_ASK, where=places, attribute=attribute, order=order, amount=amount, kind=kind),
            answer=Answer((str(scene.entities[winner][attribute]),)),
            ways=(tuple(scene.reads(reads)),),
        )
