"""``procedure``: change something that can only be changed after something else has been done to it."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.families.change import ORDER
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Step
from steptool_env.tasks.worlds.scene import Misfit, Quest, Scene
from steptool_env.tasks.worlds.tools import change_tool
from steptool_env.types import ToolCall

__all__ = ["Procedure"]


class Procedure(Family):
    """A chain and two changes; the description of the second tool says that it needs the first."""

    name: ClassVar[str] = "procedure"
    least: ClassVar[int] = 3

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return bool(domain.procedures)

    def draw(self, scene: Scene, depth: int) -> Quest:
        last = scene.rng.choice(scene.domain.procedures)
        first = next(change for change in scene.domain.changes if change.entity == last.entity and change.status == last.after)
        place, kinds, ids = scene.path(depth - 1, [last.entity])
        codes = scene.code(), scene.code()
        if codes[0] == codes[1]:
            raise Misfit
        goals = tuple(("done", change_tool(change), ids[-1]) for change in (first, last))
        acts = [Step(ToolCall(str(goal[1]), {f"{last.entity}_id": ids[-1]}), (goal,)) for goal in goals]
        return Quest(
            instruction=scene.say(ORDER, verb=last.verb, where=place),
            answer=Answer((codes[1],)),
            ways=((*scene.reads(scene.along(kinds, ids, place.relations)), *acts),),
            goals=goals,
            confirmations=dict(zip(goals, codes, strict=True)),
        )
