"""``move``: let a relation of one thing lead to another one, both of which have to be found. Mistakes can be taken back."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Step
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene, Wording
from steptool_env.tasks.worlds.tools import change_tool
from steptool_env.types import ToolCall

__all__ = ["Move"]

_ASK = Wording(
    seen=(
        "{Verb} {first}: the new {relation} is {second}. Report the confirmation.",
        "Please {verb} {first} to {second} as its new {relation} and report the confirmation.",
    ),
    unseen=(
        "From now on, {second} is to be the {relation} of {first}: {verb} it and tell me the confirmation.",
        "Could you {verb} {first}? Its {relation} shall be {second}. I need the confirmation.",
    ),
)


class Move(Family):
    """Two chains and a change that needs both their ends."""

    name: ClassVar[str] = "move"
    least: ClassVar[int] = 2

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return bool(domain.links)

    def draw(self, scene: Scene, depth: int) -> Quest:
        link = scene.rng.choice(scene.domain.links)
        target = scene.domain.entities[link.entity].relations[link.relation]
        lengths = scene.split(depth + 1, 2)
        first, kinds, ids = scene.path(lengths[0], [link.entity])
        second, types, keys = scene.path(lengths[1], [target])
        key, end = ids[-1], keys[-1]
        if scene.entities[key][link.relation] == end or key == end:
            raise Misfit
        code, tool = scene.code(), change_tool(link)
        goal = ("done", tool, key, end)
        reads = [*scene.along(kinds, ids, first.relations), *scene.along(types, keys, second.relations)]
        if (link.entity, key, link.relation) in reads:
            raise Misfit  # the way to the new one leads through the old one
        act = Step(ToolCall(tool, {f"{link.entity}_id": key, f"new_{link.relation}": end}), (goal,))
        return Quest(
            instruction=scene.say(_ASK, verb=link.verb, first=first, second=second, relation=link.relation),
            answer=Answer((code,)),
            ways=((*scene.reads(reads), act),),
            goals=(goal,),
            confirmations={goal: code},
            offered=(f"undo_{tool}",),
        )
