"""``change``: follow a chain of relations, change what it leads to, and report the confirmation code."""

from __future__ import annotations

from typing import ClassVar

from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domain import Domain
from steptool_env.tasks.worlds.families.base import Family
from steptool_env.tasks.worlds.levels import Dials
from steptool_env.tasks.worlds.plan import Step
from steptool_env.tasks.worlds.scene import Place, Quest, Scene, Wording
from steptool_env.tasks.worlds.tools import change_tool
from steptool_env.types import ToolCall

__all__ = ["ORDER", "Change"]

ORDER = Wording(
    seen=("{Verb} {where} and tell me the confirmation.", "Please {verb} {where} and report the confirmation."),
    unseen=(
        "We have to {verb} {where}. What is the confirmation?",
        "Would you {verb} {where} for me? I need the confirmation.",
        "{Verb} {where}; answer with the confirmation.",
    ),
)


class Change(Family):
    """A chain of lookups with a change at its end.

    It takes two calls: where the instruction named what to change, trying every tool on it would do.
    """

    name: ClassVar[str] = "change"
    least: ClassVar[int] = 2
    rich: ClassVar[bool] = False

    def fits(self, domain: Domain, dials: Dials) -> bool:
        return bool(domain.changes)

    def draw(self, scene: Scene, depth: int) -> Quest:
        kinds, relations, change = scene.walk(depth, scene.domain.changes)
        assert change is not None
        ids = [scene.rng.choice(scene.keys(kinds[0]))]
        for relation in relations:
            ids.append(scene.entities[ids[-1]][relation])
        code = scene.code()
        goal = ("done", change_tool(change), ids[-1])  # what is changed need not be read
        act = Step(ToolCall(change_tool(change), {f"{kinds[-1]}_id": ids[-1]}), (goal,))
        return Quest(
            instruction=scene.say(ORDER, verb=change.verb, where=Place(tuple(relations), kinds[0], ids[0])),
            answer=Answer((code,)),
            ways=((*scene.reads(scene.along(kinds, ids, relations)), act),),
            goals=(goal,),
            confirmations={goal: code},
        )
