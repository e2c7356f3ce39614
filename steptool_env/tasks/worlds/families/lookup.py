"""``lookup``: follow a chain of relations and report an attribute."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.scene import Place, Quest, Scene, Wording

__all__ = ["ASK", "Lookup"]

ASK = Wording(
    seen=("What is the {attribute} of {where}?", "Find out the {attribute} of {where}.", "I need the {attribute} of {where}."),
    unseen=("Tell me {where}'s {attribute}.", "Which {attribute} does {where} have?", "Somebody asks for {where}'s {attribute}: look it up."),
)


class Lookup(Family):
    """A chain of lookups."""

    name: ClassVar[str] = "lookup"
    rich: ClassVar[bool] = False

    def draw(self, scene: Scene, depth: int) -> Quest:
        kinds, relations, _ = scene.walk(depth)
        ids = [scene.rng.choice(scene.keys(kinds[0]))]
        for relation in relations:
            ids.append(scene.entities[ids[-1]][relation])
        attribute = scene.rng.choice(list(scene.domain.entities[kinds[-1]].attributes))
        return Quest(
            instruction=scene.say(ASK, attribute=attribute, where=Place(tuple(relations), kinds[0], ids[0])),
            answer=Answer((str(scene.entities[ids[-1]][attribute]),)),
            ways=(tuple(scene.reads(scene.along(kinds, ids, relations, attribute))),),
        )
