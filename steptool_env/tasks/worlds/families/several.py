"""``several``: report attributes of several entities, in the order of the question."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene, Wording

__all__ = ["Several"]

_ASK = Wording(
    seen=("Report {what}, separated by commas.", "I need {what}, in this order.", "Find out {what} and list them in this order."),
    unseen=("Look up {what}. Keep the order.", "Please answer with {what}, one after the other."),
)


class Several(Family):
    """Chains of lookups side by side; any order of the calls will do."""

    name: ClassVar[str] = "several"
    least: ClassVar[int] = 2

    def draw(self, scene: Scene, depth: int) -> Quest:
        count = scene.rng.randint(2, max(2, min(scene.dials.branching, depth)))
        reads: list[tuple[str, str, str]] = []
        asked, answers = list[tuple[str, str]](), list[str]()
        places = []
        for length in scene.split(depth, count):
            place, kinds, ids = scene.path(length, scene.domain.entities)
            attribute = scene.rng.choice(list(scene.domain.entities[kinds[-1]].attributes))
            if (ids[-1], attribute) in asked:
                raise Misfit
            asked.append((ids[-1], attribute))
            reads += scene.along(kinds, ids, place.relations, attribute)
            answers.append(str(scene.entities[ids[-1]][attribute]))
            places.append((attribute, place))
        return Quest(scene.say(_ASK, what=places), Answer(tuple(answers)), (tuple(scene.reads(reads)),))
