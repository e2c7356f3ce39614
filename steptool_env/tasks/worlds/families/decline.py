"""``decline``: a lookup or a change that may turn out to be impossible; the agent then has to say so, and name what stands in the way."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.families.change import ORDER
from steptool_env.tasks.worlds.families.lookup import ASK
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Step
from steptool_env.tasks.worlds.scene import Quest, Scene, Wording
from steptool_env.tasks.worlds.tools import change_tool
from steptool_env.types import ToolCall

__all__ = ["Decline"]

_ADD = Wording(
    seen=(
        " If that is impossible, give up and answer with the id of the record that stands in the way.",
        " If it cannot be done, give up and answer with the id of the record at which it fails.",
    ),
    unseen=(" Should a record make that impossible, give up and name its id instead.",),
)
_BARRED = ("suspended", "expired", "disputed")


class Decline(Family):
    """One in three can be done after all. Giving up takes proof, the id of a record that the question does not name: else whoever
    always gives up would be right most of the time."""

    name: ClassVar[str] = "decline"
    least: ClassVar[int] = 2

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return bool(domain.changes)

    def draw(self, scene: Scene, depth: int) -> Quest:
        impossible = scene.rng.random() < 2 / 3
        return self._lookup(scene, depth, impossible) if scene.rng.random() < 0.5 else self._change(scene, depth, impossible)

    def _lookup(self, scene: Scene, depth: int, impossible: bool) -> Quest:
        """A chain that ends before it gets where it should: a relation is empty."""
        place, kinds, ids = scene.path(depth + impossible, scene.domain.entities)
        attribute = scene.rng.choice(list(scene.domain.entities[kinds[-1]].attributes))
        instruction = scene.say(ASK, attribute=attribute, where=place) + scene.say(_ADD)
        reads = scene.along(kinds, ids, place.relations, attribute)[:depth]
        if not impossible:
            return Quest(instruction, Answer((str(scene.entities[ids[-1]][attribute]),)), (tuple(scene.reads(reads)),))
        scene.entities[ids[-2]][place.relations[-1]] = None
        return Quest(instruction, Answer((ids[-2],), give_up=True), (tuple(scene.reads(reads)),), offered=scene.tools(kinds))

    def _change(self, scene: Scene, depth: int, impossible: bool) -> Quest:
        """A change that the status of its object forbids; one can read that, or try and be refused."""
        change = scene.rng.choice(scene.domain.changes)
        place, kinds, ids = scene.path(depth, [change.entity])
        instruction = scene.say(ORDER, verb=change.verb, where=place) + scene.say(_ADD)
        reads = scene.reads(scene.along(kinds, ids, place.relations))
        code, call = scene.code(), ToolCall(change_tool(change), {f"{change.entity}_id": ids[-1]})
        if impossible:
            way = tuple(scene.reads([*scene.along(kinds, ids, place.relations), (change.entity, ids[-1], "status")]))
            return Quest(instruction, Answer((ids[-1],), give_up=True), (way,), statuses={ids[-1]: scene.rng.choice(_BARRED)}, offered=(call.name,))
        goal = ("done", call.name, ids[-1])
        return Quest(instruction, Answer((code,)), ((*reads, Step(call, (goal,))),), (goal,), {goal: code}, offered=scene.tools([change.entity]))
